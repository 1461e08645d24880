//! Protobuf events that stand in for the CQC contracts where those are not at hand (TKT-4, BUS-9).

use cqi_core::event::DomainEvent;

/// An asset was added to the registry.
#[allow(clippy::exhaustive_structs)]
#[derive(Clone, PartialEq, prost::Message)]
pub struct AssetCreated {
    /// Which asset.
    #[prost(string, tag = "1")]
    pub asset_id: String,
    /// Its symbol, for example `BTC`.
    #[prost(string, tag = "2")]
    pub symbol: String,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// A portfolio holds another quantity of an asset.
///
/// ```
/// use cqi_core::event::{DomainEvent, Payload};
/// use cqi_testkit::contracts::PositionChanged;
///
/// # fn main() -> cqi_core::Result<()> {
/// let changed = PositionChanged { portfolio_id: "p1".into(), asset_id: "BTC".into(), new_quantity: "0.5".into(), at_millis: 7 };
/// assert_eq!(changed.key().as_deref(), Some("p1:BTC"));
/// assert_eq!(<PositionChanged as Payload>::decode(&Payload::encode(&changed)?)?, changed);
/// # Ok(()) }
/// ```
#[allow(clippy::exhaustive_structs)]
#[derive(Clone, PartialEq, prost::Message)]
pub struct PositionChanged {
    /// Which portfolio.
    #[prost(string, tag = "1")]
    pub portfolio_id: String,
    /// Which asset.
    #[prost(string, tag = "2")]
    pub asset_id: String,
    /// The quantity from now on, as a decimal number.
    #[prost(string, tag = "3")]
    pub new_quantity: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_millis: i64,
}

/// An asset has another price.
#[allow(clippy::exhaustive_structs)]
#[derive(Clone, PartialEq, prost::Message)]
pub struct PriceUpdated {
    /// Which asset.
    #[prost(string, tag = "1")]
    pub asset_id: String,
    /// The price, as a decimal number.
    #[prost(string, tag = "2")]
    pub price: String,
    /// Its currency, for example `USD`.
    #[prost(string, tag = "3")]
    pub currency: String,
}

impl DomainEvent for AssetCreated {
    const TYPE: &'static str = "asset_created";

    fn key(&self) -> Option<String> {
        Some(self.asset_id.clone())
    }
}

impl DomainEvent for PositionChanged {
    const TYPE: &'static str = "position_changed";

    fn key(&self) -> Option<String> {
        Some(format!("{}:{}", self.portfolio_id, self.asset_id))
    }
}

impl DomainEvent for PriceUpdated {
    const TYPE: &'static str = "price_updated";

    fn key(&self) -> Option<String> {
        Some(self.asset_id.clone())
    }
}
