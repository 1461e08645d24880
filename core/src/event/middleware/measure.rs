//! Duration and outcome of each message, for metrics (BUS-11, OP-37).

use std::sync::Arc;

use tokio::time::Instant;

use super::from_fn::middleware;
use crate::{
    Result,
    event::{Message, Next},
    observe::{Observation, Observer},
};

/// Reports [`Observation::Handled`] for each message.
#[derive(Debug, Clone)]
pub struct Measure(Arc<dyn Observer>);

impl Measure {
    /// Reports to `observer`.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self(observer)
    }

    async fn run(self, message: Message, next: Next) -> Result<()> {
        let (topic, group) = (message.event.topic().clone(), message.group.clone());
        let started = Instant::now();
        let result = next.run(message).await;
        self.0.observe(&Observation::Handled {
            topic: topic.as_str(),
            group: group.as_str(),
            elapsed: started.elapsed(),
            error: result.as_ref().err(),
        });
        result
    }
}

middleware!(Measure);
