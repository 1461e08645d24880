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
        measure(&*self.0, message, |message| next.run(message)).await
    }
}

middleware!(Measure);

/// The middleware itself, over anything that goes on with a message.
pub(in crate::event) async fn measure<F>(
    observer: &dyn Observer,
    message: Message,
    next: impl FnOnce(Message) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (event, group) = (message.event.clone(), message.group.clone());
    let started = Instant::now();
    let result = next(message).await;
    observer.observe(&Observation::Handled {
        topic: event.topic().as_str(),
        group: group.as_str(),
        elapsed: started.elapsed(),
        error: result.as_ref().err(),
    });
    result
}
