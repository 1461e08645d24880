//! Checks that every handler makes on a protobuf message, where all fields are optional and enums are numbers (G-11).

use cqi_core::{Error, Result};

use crate::error::FIELD;

/// The value of a message or `oneof` that must be there.
///
/// # Errors
/// `InvalidInput` that names the field; a client gets a `BadRequest` detail of it.
///
/// ```
/// let error = cqi_grpc::required("symbol", None::<String>).unwrap_err();
/// assert_eq!(error.message(), "symbol must be given");
/// ```
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::invalid_input(format!("{field} must be given")).with_context(FIELD, field))
}

/// The enum of a number that came in.
///
/// # Errors
/// `InvalidInput` that names the field when the enum has no such number; see [`required`].
pub fn known<E: TryFrom<i32>>(field: &'static str, number: i32) -> Result<E> {
    E::try_from(number).map_err(|_| {
        Error::invalid_input(format!("{field} has no value {number}")).with_context(FIELD, field)
    })
}
