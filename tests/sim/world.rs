//! Time, tasks, dice and the network. Nothing here waits: a task that sleeps is polled when virtual time has come
//! to it, one task after another, so that a seed decides everything.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sluicegate_cluster::clock::{self, UnixMs};

/// The database's time when a run begins.
const BEGAN: UnixMs = UnixMs(1_760_000_000_000);

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type TaskId = u64;

/// What tasks share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    base: Instant,
}

struct State {
    now_ms: u64,
    timers: BTreeSet<(u64, TaskId)>,
    current: TaskId,
    next_task: TaskId,
    born: Vec<(TaskId, String, Task)>,
    killed: Vec<String>,
    rng: StdRng,
    /// Pairs that cannot reach each other, and until when. The store is `store`.
    cut: BTreeMap<(String, String), u64>,
    /// Processes that stand still, and until when.
    frozen: BTreeMap<String, u64>,
    trace: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            now_ms: 0,
            timers: BTreeSet::new(),
            current: 0,
            next_task: 0,
            born: Vec::new(),
            killed: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            cut: BTreeMap::new(),
            frozen: BTreeMap::new(),
            trace: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), base: clock::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the run began.
    pub(crate) fn ms(&self) -> u64 {
        self.lock().now_ms
    }

    /// The monotonic clock.
    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_millis(self.ms())
    }

    /// The database's clock.
    pub(crate) fn unix(&self) -> UnixMs {
        BEGAN.plus(Duration::from_millis(self.ms()))
    }

    pub(crate) fn sleep(&self, ms: u64) -> Sleep {
        Sleep { until_ms: self.ms() + ms, world: self.clone() }
    }

    /// What `future` comes to, if that is within `ms`; it is dropped then.
    pub(crate) async fn within<T>(&self, ms: u64, future: impl Future<Output = T> + Send) -> Option<T> {
        match select(pin!(future), pin!(self.sleep(ms))).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(_) => None,
        }
    }

    /// A task of the process `owner`, which ends with it.
    pub(crate) fn spawn(&self, owner: &str, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.lock();
        let id = state.next_task;
        state.next_task += 1;
        let now_ms = state.now_ms;
        state.born.push((id, owner.to_owned(), Box::pin(task)));
        state.timers.insert((now_ms, id));
    }

    /// Ends all tasks of a process.
    pub(crate) fn kill(&self, owner: &str) {
        let mut state = self.lock();
        state.frozen.remove(owner);
        state.killed.push(owner.to_owned());
    }

    /// A process stands still.
    pub(crate) fn freeze(&self, owner: &str, ms: u64) {
        let mut state = self.lock();
        let until = state.now_ms + ms;
        state.frozen.insert(owner.to_owned(), until);
    }

    pub(crate) fn is_frozen(&self, owner: &str) -> bool {
        let state = self.lock();
        state.frozen.get(owner).is_some_and(|until| *until > state.now_ms)
    }

    /// Two cannot reach each other for a while.
    pub(crate) fn cut(&self, one: &str, other: &str, ms: u64) {
        let mut state = self.lock();
        let until = state.now_ms + ms;
        state.cut.insert((one.to_owned(), other.to_owned()), until);
    }

    pub(crate) fn reaches(&self, one: &str, other: &str) -> bool {
        let state = self.lock();
        let cut = |a: &str, b: &str| {
            state.cut.get(&(a.to_owned(), b.to_owned())).is_some_and(|t| *t > state.now_ms)
        };
        !cut(one, other) && !cut(other, one)
    }

    /// Everything can reach everything, and nothing stands still.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.frozen.clear();
    }

    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.lock().rng.random_range(low..=high)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    pub(crate) fn pick<T: Clone>(&self, from: &[T]) -> T {
        let last = u64::try_from(from.len()).unwrap() - 1;
        from[usize::try_from(self.between(0, last)).unwrap()].clone()
    }

    /// Dice for code that wants its own.
    pub(crate) fn dice(&self) -> StdRng {
        StdRng::from_rng(&mut self.lock().rng)
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        let mut state = self.lock();
        let line = format!("{:>6} ms  {}", state.now_ms, what.into());
        state.trace.push(line);
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }
}

/// Ready when virtual time has come to it.
pub(crate) struct Sleep {
    until_ms: u64,
    world: World,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.lock();
        if state.now_ms >= self.until_ms {
            return Poll::Ready(());
        }
        let timer = (self.until_ms, state.current);
        state.timers.insert(timer);
        Poll::Pending
    }
}

/// Runs the tasks of a world.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: BTreeMap<TaskId, (String, Task)>,
}

impl Executor {
    /// Polls one task. `false`: nothing is left to do before `end_ms`, which it is then.
    pub(crate) fn step(&mut self, world: &World, end_ms: u64) -> bool {
        self.take_changes(world);
        let id = {
            let mut state = world.lock();
            let Some((at_ms, id)) = state.timers.first().copied().filter(|(at_ms, _)| *at_ms <= end_ms)
            else {
                state.now_ms = end_ms;
                return false;
            };
            state.timers.pop_first();
            state.now_ms = state.now_ms.max(at_ms);
            let owner = self.tasks.get(&id).map_or("", |(owner, _)| owner);
            if let Some(until) = state.frozen.get(owner).copied().filter(|until| *until > state.now_ms) {
                state.timers.insert((until, id));
                return true;
            }
            state.current = id;
            id
        };
        let Some((_, task)) = self.tasks.get_mut(&id) else { return true };
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.tasks.remove(&id);
        }
        true
    }

    fn take_changes(&mut self, world: &World) {
        let (born, killed) = {
            let mut state = world.lock();
            (std::mem::take(&mut state.born), std::mem::take(&mut state.killed))
        };
        // What a process has begun ends with it, too.
        self.tasks.extend(born.into_iter().map(|(id, owner, task)| (id, (owner, task))));
        for owner in killed {
            self.tasks.retain(|_, (of, _)| *of != owner);
        }
    }
}
