use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::lock::lock;

/// Which parts of a task have been woken
///
/// A task that waits for many things polls those and no others. `FuturesUnordered` does the same and then has its
/// task polled once more, whenever it has polled as many parts as it has: for a session with one subscription that
/// is an idle round for each wake-up.
#[derive(Debug, Default)]
pub(super) struct Ready(Arc<List>);

#[derive(Debug, Default)]
struct List(Mutex<Woken>);

#[derive(Debug, Default)]
struct Woken {
    parts: VecDeque<Arc<Part>>,
    /// To be woken with the next part.
    task: Option<Waker>,
}

/// One part: gives its waker, and says which it is when it was woken
#[derive(Debug)]
pub(super) struct Part {
    pub(super) key: u64,
    /// Whether it is in the list.
    is_listed: AtomicBool,
    list: Weak<List>,
}

impl Ready {
    /// Lists a part as if it had been woken. For the task itself: it is not woken by this.
    pub(super) fn add(&self, key: u64) {
        let list = Arc::downgrade(&self.0);
        let part = Arc::new(Part { key, is_listed: AtomicBool::new(true), list });
        lock(&self.0.0).parts.push_back(part);
    }

    /// The part that was woken first; pending until one is.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Arc<Part>> {
        let mut woken = lock(&self.0.0);
        let Some(part) = woken.parts.pop_front() else {
            if !woken.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                woken.task = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        // The task is at work: it need not be woken before it waits again.
        woken.task = None;
        drop(woken);
        // Before it is polled: what happens from then on wakes it again.
        part.is_listed.store(false, Ordering::Release);
        Poll::Ready(part)
    }
}

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        // The task may have ended.
        let Some(list) = self.list.upgrade() else { return };
        let task = {
            let mut woken = lock(&list.0);
            woken.parts.push_back(self);
            woken.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Arc::clone(self).wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn next(ready: &Ready, task: &Arc<Count>) -> Option<Arc<Part>> {
        let waker = Waker::from(Arc::clone(task));
        match ready.poll_next(&Context::from_waker(&waker)) {
            Poll::Ready(part) => Some(part),
            Poll::Pending => None,
        }
    }

    #[test]
    fn parts_come_in_the_order_in_which_they_were_woken() {
        let (ready, task) = (Ready::default(), Arc::new(Count::default()));
        ready.add(1);
        ready.add(2);
        let one = next(&ready, &task).unwrap();
        let two = next(&ready, &task).unwrap();
        assert_eq!((one.key, two.key), (1, 2));
        assert!(next(&ready, &task).is_none());
        two.wake_by_ref();
        one.wake_by_ref();
        two.wake_by_ref();
        let keys = [next(&ready, &task).unwrap().key, next(&ready, &task).unwrap().key];
        assert_eq!(keys, [2, 1]);
        assert!(next(&ready, &task).is_none(), "listed once, however often it was woken");
    }

    #[test]
    fn the_task_is_woken_once_and_only_while_it_waits() {
        let (ready, task) = (Ready::default(), Arc::new(Count::default()));
        ready.add(1);
        let part = next(&ready, &task).unwrap();
        part.wake_by_ref();
        assert_eq!(task.0.load(Ordering::Relaxed), 0, "it has not waited yet");
        assert!(next(&ready, &task).is_some());
        assert!(next(&ready, &task).is_none());
        ready.add(2);
        let other = next(&ready, &task).unwrap();
        part.wake_by_ref();
        assert_eq!(task.0.load(Ordering::Relaxed), 0, "it is at work");
        assert!(next(&ready, &task).is_some());
        assert!(next(&ready, &task).is_none());
        other.wake();
        part.wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_wakes_a_task_that_has_ended_keeps_nothing_of_it() {
        let (ready, task) = (Ready::default(), Arc::new(Count::default()));
        ready.add(1);
        ready.add(2);
        let part = next(&ready, &task).unwrap();
        let list = Arc::downgrade(&ready.0);
        drop(ready);
        part.wake();
        assert!(list.upgrade().is_none());
    }
}
