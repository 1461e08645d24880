//! Values in the form the server sends and wants them: its binary format, by the type it says.

mod decode;
mod encode;
mod numeric;

use sqlx::TypeInfo as _;
use sqlx::postgres::{PgTypeInfo, PgTypeKind};

pub(crate) use self::{decode::decode, encode::bind};

/// A type of the server, as far as values go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    /// `text`, `varchar`, `citext`, enums, …: their binary format is the text.
    Text,
    Bytes,
    Timestamptz,
    Timestamp,
    Date,
    Time,
    Uuid,
    Json,
    Jsonb,
    Void,
    Array {
        of: Box<Self>,
        oid: u32,
    },
    /// One whose format is not known here.
    Other(String),
}

impl Type {
    pub(crate) fn of(info: &PgTypeInfo) -> Self {
        match info.kind() {
            PgTypeKind::Domain(base) => return Self::of(base),
            PgTypeKind::Enum(_) => return Self::Text,
            PgTypeKind::Array(element) => {
                if let Some(oid) = element.oid() {
                    return Self::Array {
                        of: Box::new(Self::of(element)),
                        oid: oid.0,
                    };
                }
            }
            _ => {}
        }
        // Numbers of PostgreSQL's catalogue, which never change; what an extension brought goes by its name.
        match info.oid().map_or(0, |oid| oid.0) {
            16 => Self::Bool,
            17 => Self::Bytes,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            26 => Self::Oid,
            18 | 19 | 25 | 142 | 705 | 1042 | 1043 => Self::Text,
            114 => Self::Json,
            700 => Self::Float4,
            701 => Self::Float8,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            1700 => Self::Numeric,
            2278 => Self::Void,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ if info.name().eq_ignore_ascii_case("citext") => Self::Text,
            _ => Self::Other(info.name().to_owned()),
        }
    }

    /// Its name, for errors.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Oid => "oid",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Bytes => "bytea",
            Self::Timestamptz => "timestamptz",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Time => "time",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Void => "void",
            Self::Array { .. } => "array",
            Self::Other(name) => name,
        }
    }
}

/// Seconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCH: i64 = 946_684_800;
