//! The one thread that writes: whatever waits when it looks goes into one transaction and shares one sync of the disk.

use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::schema::Lock;
use super::value::store_error;
use crate::store::StoreError;

/// How many jobs share a transaction at most: beyond some hundreds the sync is no longer what costs
const MAX_GROUP: usize = 512;

/// How many jobs may wait; what they hold is bounded in octets besides
const MAX_WAITING: usize = 4096;

#[derive(Debug)]
pub(super) struct Writer {
    /// `None` once closed
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    /// Octets that waiting jobs may still take
    budget: Arc<Semaphore>,
    max_waiting_octets: u32,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        lock: Lock,
        max_waiting_octets: u32,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                run(connection, queue);
                drop(lock);
            })
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            jobs: Some(jobs),
            budget: Arc::new(Semaphore::new(max_waiting_octets as usize)),
            max_waiting_octets,
            thread: Some(thread),
        })
    }

    /// Runs `run` in a transaction and returns once that is on disk
    ///
    /// `run` may be called again if a transaction failed that it shared with others. Waits while the budget is spent.
    pub(super) async fn write<T, F>(&self, octets: usize, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX).min(self.max_waiting_octets);
        let permit = Arc::clone(&self.budget).acquire_many_owned(octets).await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { run, outcome: None, reply, permit });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Octets that wait to be written
    #[cfg(test)]
    pub(super) fn waiting_octets(&self) -> usize {
        self.max_waiting_octets as usize - self.budget.available_permits()
    }
}

impl Drop for Writer {
    /// Waits for what was handed over, so that the file is free when the store is gone
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // The thread fails only by a panic, which it has already reported.
            let _ = thread.join();
        }
    }
}

trait Job: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<T, F> {
    run: F,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    permit: OwnedSemaphorePermit,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.outcome = Some((self.run)(connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { outcome, reply, permit, .. } = *self;
        drop(permit);
        let answer = committed.and_then(|()| outcome.ok_or(StoreError::Closed));
        // The caller may have gone: what it handed over is done all the same.
        let _ = reply.send(answer);
    }
}

fn run(mut connection: Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        match commit(&mut connection, &mut group) {
            Err(_) if group.len() > 1 => {
                // One job that cannot be done must not fail the others: each for itself.
                for mut job in group {
                    let committed = commit(&mut connection, std::slice::from_mut(&mut job));
                    job.finish(committed);
                }
            }
            committed => {
                for job in group {
                    job.finish(committed.clone());
                }
            }
        }
    }
}

fn commit(connection: &mut Connection, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let all = |connection: &mut Connection| {
        // Dropped without a commit, the transaction is rolled back.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in group {
            job.run(&transaction)?;
        }
        transaction.commit()
    };
    all(connection).map_err(|error| {
        tracing::warn!(%error, "the store could not write");
        store_error(&error)
    })
}
