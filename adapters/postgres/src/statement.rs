//! A statement as the server knows it: prepared once per connection, with the types of its parameters and columns.

use std::sync::Arc;

use cqi_core::{
    Code, Error, Result,
    database::{Row, Value},
};
use sqlx::{
    AssertSqlSafe, Column as _, Either, Row as _, SqlSafeStr as _, SqlStr, Statement as _, ValueRef as _,
    postgres::{PgArguments, PgRow, PgStatement},
};

use crate::{
    check,
    values::{Type, bind, decode},
};

/// S-01: the only place that vouches for a text. It came in as a `Statement`, whose values travel apart.
/// Shared, so that the driver's clones do not copy it.
pub(crate) fn trusted(text: &str) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// What a text was found to be before it was sent for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    /// It holds more than one statement.
    pub(crate) several: bool,
    pub(crate) changes_rows: bool,
    pub(crate) changes_schema: bool,
    pub(crate) changes_session: bool,
    /// It may commit within, and fail after that.
    pub(crate) commits: bool,
}

impl Traits {
    /// Refuses what must not be sent.
    pub(crate) fn of(text: &str) -> Result<Self> {
        let statements = check::split(text)?;
        for statement in &statements {
            check::refuse_transaction_control(statement)?;
        }
        let any = |is: fn(&str) -> bool| statements.iter().any(|statement| is(statement));
        Ok(Self {
            several: statements.len() > 1,
            changes_rows: any(check::changes_rows),
            changes_schema: any(check::changes_schema),
            changes_session: any(check::changes_session),
            commits: any(check::commits),
        })
    }
}

/// What several statements cannot be.
pub(crate) fn one_statement(rows: bool, values: &[Value]) -> Result<()> {
    let why = if rows {
        "a query is one statement; execute takes several"
    } else if !values.is_empty() {
        "values are for one statement; execute takes several without"
    } else {
        return Ok(());
    };
    Err(Error::invalid_input(why))
}

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) raw: PgStatement,
    pub(crate) traits: Traits,
    parameters: Vec<Type>,
    names: Arc<[Arc<str>]>,
    types: Vec<Type>,
}

impl Prepared {
    pub(crate) fn new(raw: PgStatement, traits: Traits) -> Self {
        let parameters = match raw.parameters() {
            Some(Either::Left(types)) => types.iter().map(Type::of).collect(),
            _ => Vec::new(),
        };
        let columns = raw.columns();
        Self {
            parameters,
            names: columns.iter().map(|column| Arc::from(column.name())).collect(),
            types: columns
                .iter()
                .map(|column| Type::of(column.type_info()))
                .collect(),
            traits,
            raw,
        }
    }

    pub(crate) fn sql(&self) -> SqlStr {
        self.raw.sql().clone()
    }

    /// The driver's form of the values, each written as the server wants it.
    pub(crate) fn bind(&self, values: &[Value]) -> Result<PgArguments> {
        if self.parameters.len() != values.len() {
            return Err(Error::invalid_input(format!(
                "the statement has {} parameters, {} values were bound",
                self.parameters.len(),
                values.len()
            )));
        }
        bind(values, &self.parameters)
    }

    /// A row of the result, read by the types of its columns.
    pub(crate) fn row(&self, row: &PgRow) -> Result<Row> {
        let mut values = Vec::with_capacity(self.types.len());
        for (at, of) in self.types.iter().enumerate() {
            let raw = row.try_get_raw(at).map_err(|_| self.undecodable(at))?;
            values.push(if raw.is_null() {
                Value::Null
            } else {
                let bytes = raw.as_bytes().ok();
                bytes
                    .and_then(|bytes| decode(of, bytes))
                    .ok_or_else(|| self.undecodable(at))?
            });
        }
        Ok(Row::new(Arc::clone(&self.names), values))
    }

    fn undecodable(&self, at: usize) -> Error {
        let (name, of) = (self.names.get(at), self.types.get(at));
        let why = match of {
            Some(Type::Other(_)) => "columns of this type cannot be read; select it cast to text",
            _ => "stored value cannot be read",
        };
        Error::permanent(why)
            .with_code(Code::Undecodable)
            .with_context("column", name.map_or("", |name| name))
            .with_context("type", of.map_or("", Type::name))
    }
}
