//! Limits on messages, checked on their length prefix, before anybody makes room for them (G-01).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

/// The length of what stands before every message: a flag for compression, and the length as 32 bits.
const PREFIX: usize = 5;

/// Follows the messages in a stream of bytes.
#[derive(Debug)]
pub(super) struct Messages {
    limit: usize,
    prefix: [u8; PREFIX],
    /// How much of a prefix is there.
    filled: usize,
    /// Bytes of the current message that are still to come.
    remaining: usize,
}

impl Messages {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            prefix: [0; PREFIX],
            filled: 0,
            remaining: 0,
        }
    }

    /// Takes note of the next bytes; fails when a message begins that is over the limit.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            let skip = self.remaining.min(bytes.len());
            self.remaining -= skip;
            bytes = &bytes[skip..];
            let take = (PREFIX - self.filled).min(bytes.len());
            if self.remaining > 0 || take == 0 {
                continue;
            }
            self.prefix[self.filled..self.filled + take].copy_from_slice(&bytes[..take]);
            self.filled += take;
            bytes = &bytes[take..];
            if self.filled == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length) as usize;
                if length > self.limit {
                    return Err(Status::resource_exhausted(format!(
                        "message of {length} bytes is over the limit of {} bytes",
                        self.limit
                    )));
                }
                (self.filled, self.remaining) = (0, length);
            }
        }
        Ok(())
    }
}

/// The body of a request with limited messages.
#[derive(Debug)]
pub(super) struct Limited<B> {
    inner: B,
    messages: Messages,
}

impl<B> Limited<B> {
    pub(super) fn new(inner: B, limit: usize) -> Self {
        Self {
            inner,
            messages: Messages::new(limit),
        }
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        Pin::new(&mut this.inner).poll_frame(context).map(|frame| {
            Some(match frame? {
                Ok(frame) => {
                    let data = frame.data_ref().map_or(&[][..], |data| data);
                    this.messages.pass(data).map(|()| frame)
                }
                Err(error) => Err(Status::from_error(error.into())),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn stream(lengths: &[u32]) -> Vec<u8> {
        let message = |length: &u32| [&[0][..], &length.to_be_bytes(), &vec![9; *length as usize]].concat();
        lengths.iter().flat_map(message).collect()
    }

    #[test]
    fn g_01_messages_are_followed_however_the_bytes_are_cut() {
        let bytes = stream(&[0, 3, 10, 0, 7]);
        for size in 1..bytes.len() {
            let mut messages = Messages::new(10);
            for part in bytes.chunks(size) {
                messages.pass(part).unwrap();
            }
            assert_eq!((messages.filled, messages.remaining), (0, 0));
            let mut messages = Messages::new(9);
            let refused = bytes.chunks(size).find_map(|part| messages.pass(part).err());
            assert_eq!(refused.unwrap().code(), Code::ResourceExhausted);
        }
    }
}
