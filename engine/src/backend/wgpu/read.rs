//! Reading from the device: the only places where the host waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use super::buffers::{Buffer, Purpose};
use super::context::{Context, Tensor, Tokens, Wgpu};
use super::sample::NO_TOKEN;
use crate::Result;

type Outcome = Result<(), wgpu::BufferAsyncError>;

/// Completes when a buffer has been mapped.
#[derive(Clone, Default)]
struct Mapped(Arc<Mutex<(Option<Outcome>, Option<Waker>)>>);

impl Mapped {
    fn finish(&self, outcome: Outcome) {
        if let Ok(mut state) = self.0.lock() {
            state.0 = Some(outcome);
            if let Some(waker) = state.1.take() {
                waker.wake();
            }
        }
    }
}

impl Future for Mapped {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Outcome> {
        let Ok(mut state) = self.0.lock() else { return Poll::Ready(Err(wgpu::BufferAsyncError)) };
        match state.0.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.1 = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Context {
    /// Submits everything recorded, then the first bytes of each buffer, one after the other, in one round trip.
    async fn read_bytes(&self, parts: &[(&Buffer, u64)]) -> Result<Vec<u8>> {
        let total: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
        if total == 0 {
            return Ok(Vec::new());
        }
        let staging = self.pool.create(&self.device, "staging", total, Purpose::Staging);
        self.frame.borrow_mut().submit_with(|encoder| {
            let mut at = 0;
            for (buffer, bytes) in parts {
                encoder.copy_buffer_to_buffer(buffer.raw(), 0, staging.raw(), at, *bytes);
                at += bytes;
            }
        })?;
        let mapped = Mapped::default();
        let done = mapped.clone();
        staging.raw().map_async(wgpu::MapMode::Read, ..total, move |outcome| done.finish(outcome));
        // Natively the callback runs inside this call; in the browser it does nothing and the event loop calls back.
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|error| self.error(format!("it stopped working ({error}); load the model again")))?;
        let outcome = mapped.await;
        self.fault.check()?;
        outcome.map_err(|_| self.error("a result could not be read back; load the model again"))?;
        let view = staging
            .raw()
            .get_mapped_range(..total)
            .map_err(|error| self.error(format!("a result could not be read back ({error}); load the model again")))?;
        Ok(view.to_vec())
    }
}

pub(super) async fn read(gpu: &Wgpu, x: &Tensor) -> Result<Vec<f32>> {
    let bytes = gpu.0.read_bytes(&[(&x.buffer, 4 * x.shape[0] as u64 * x.shape[1] as u64)]).await?;
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}

pub(super) async fn read_tokens(gpu: &Wgpu, tokens: &[Tokens]) -> Result<Vec<u32>> {
    let parts: Vec<_> = tokens.iter().map(|tokens| (&tokens.buffer, 4 * tokens.len as u64)).collect();
    let ids: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.0.read_bytes(&parts).await?);
    if ids.contains(&NO_TOKEN) {
        return Err(gpu.0.error("the model computed something that is not a number; check the model's files"));
    }
    Ok(ids)
}
