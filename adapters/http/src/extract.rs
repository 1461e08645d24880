//! Extractors whose refusals have the one JSON body and never echo what the client sent.

use axum::{
    body::{Body, Bytes},
    extract::{
        FromRequest, FromRequestParts, Request,
        path::ErrorKind,
        rejection::{BytesRejection, PathRejection},
    },
    response::{IntoResponse, Response},
};
use cqi_core::{Code, Error};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::{Serialize, de::DeserializeOwned};

use crate::{HttpError, Result};

/// A JSON body, in and out.
///
/// Refuses a content type that is not JSON with 415, a body over the limit with 413, and one that is malformed or does
/// not fit `T` with 400, naming the place but not the value (ML-HTTP-5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        if !is_json(request.headers()) {
            let error = Error::invalid_input("content type must be application/json");
            return Err(HttpError::from(error).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| malformed::<T>(&bytes, &error))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(128);
        if let Err(error) = serde_json::to_writer(&mut body, &self.0) {
            return HttpError::from(Error::permanent("serialize response").with_source(error))
                .into_response();
        }
        let mut response = Response::new(Body::from(body));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// Path parameters; what does not fit `T` is refused with 400.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(bad_path(rejection)),
        }
    }
}

/// Query parameters; what does not fit `T` is refused with 400.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            // The text of the rejection quotes the value.
            Err(_) => Err(Error::invalid_input("query parameters do not fit").into()),
        }
    }
}

/// Whether the content type is `application/json` or `application/…+json`, whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence
            .get(..12)
            .is_some_and(|kind| kind.eq_ignore_ascii_case("application/"))
            && essence.len() > 17
            && essence
                .get(essence.len() - 5..)
                .is_some_and(|end| end.eq_ignore_ascii_case("+json")))
}

fn unreadable(rejection: BytesRejection) -> HttpError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Error::invalid_input("body is too large")
            .with_code(Code::TooLarge)
            .into();
    }
    Error::invalid_input("body cannot be read")
        .with_source(rejection)
        .into()
}

/// Reads the body once more to learn where it does not fit: only refused requests pay for that.
fn malformed<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> HttpError {
    let (line, column) = (error.line(), error.column());
    if !error.is_data() {
        return Error::invalid_input(format!("body is not valid JSON at line {line}, column {column}"))
            .into();
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => error.path().to_string().chars().take(64).collect(),
        Ok(_) => String::from("."),
    };
    // The name of a missing field comes from the type, so it may be shown; other texts quote the body.
    let text = error.to_string();
    let missing = text
        .split(" at line")
        .next()
        .filter(|text| text.starts_with("missing field"));
    let what = missing.unwrap_or("wrong value");
    Error::invalid_input(format!("body: {what} at {path} (line {line}, column {column})")).into()
}

fn bad_path(rejection: PathRejection) -> HttpError {
    let PathRejection::FailedToDeserializePathParams(failed) = &rejection else {
        return Error::permanent("route has no path parameters")
            .with_source(rejection)
            .into();
    };
    match failed.kind() {
        ErrorKind::WrongNumberOfParameters { .. } | ErrorKind::UnsupportedType { .. } => {
            Error::permanent("route and handler disagree on path parameters")
                .with_source(rejection)
                .into()
        }
        ErrorKind::ParseErrorAtKey {
            key, expected_type, ..
        } => Error::invalid_input(format!("path parameter {key} must be {expected_type}")).into(),
        ErrorKind::ParseErrorAtIndex { expected_type, .. } | ErrorKind::ParseError { expected_type, .. } => {
            Error::invalid_input(format!("path parameter must be {expected_type}")).into()
        }
        _ => Error::invalid_input("path parameters do not fit").into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[serde(rename = "items")]
        _items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        #[serde(rename = "amount")]
        _amount: f64,
    }

    async fn read<T: DeserializeOwned>(content_type: &str, body: impl Into<Body>) -> Result<T> {
        let request = Request::builder()
            .header("content-type", content_type)
            .body(body.into())
            .unwrap();
        Json::<T>::from_request(request, &())
            .await
            .map(|Json(value)| value)
    }

    #[tokio::test]
    async fn ml_http_5_refusals_name_the_place_and_not_the_value() {
        let cases = [
            (
                r#"{"items": [{"amount": "secret"}]}"#,
                "body: wrong value at items[0].amount (line 1, column 30)",
            ),
            (
                r#"{"items": [{}]}"#,
                "body: missing field `amount` at items[0] (line 1, column 13)",
            ),
            (r#"{"items": [}"#, "body is not valid JSON at line 1, column 12"),
            ("", "body is not valid JSON at line 1, column 0"),
        ];
        for (body, expected) in cases {
            let error = read::<Order>("application/json", body).await.unwrap_err();
            assert_eq!(error.error().message(), expected);
            assert_eq!(error.status(), 400);
        }
    }

    #[tokio::test]
    async fn h_10_hostile_json_is_refused_with_400() {
        let deep = "[".repeat(10_000);
        let bom = "\u{feff}{}";
        for body in [deep.as_str(), bom, "1e999", r#"{"a": "\ud800"}"#, r"{} {}"] {
            let error = read::<serde_json::Value>("application/json", body.to_owned())
                .await
                .unwrap_err();
            assert_eq!(error.status(), 400, "{body:.20}");
        }
        let twice = r#"{"items": [], "items": []}"#;
        assert_eq!(
            read::<Order>("application/json", twice)
                .await
                .unwrap_err()
                .status(),
            400
        );
    }

    #[tokio::test]
    async fn h_11_ml_http_5_content_types() {
        let boundary = format!("multipart/form-data; boundary={}", "x".repeat(10_000));
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
        ] {
            read::<HashMap<String, i32>>(good, "{}").await.unwrap();
        }
        for bad in [
            "text/plain",
            "application/+json",
            "json",
            "application/jsonp",
            "",
            &boundary,
        ] {
            let error = read::<HashMap<String, i32>>(bad, "{}").await.unwrap_err();
            assert_eq!(error.status(), 415, "{bad}");
        }
    }
}
