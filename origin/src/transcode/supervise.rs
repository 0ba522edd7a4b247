//! Starts a job and carries what it makes to its stream; one that breaks down is started again, and its
//! renditions are interrupted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use sluicegate_cluster::clock;
use sluicegate_media::frame::Unit;
use sluicegate_media::names::Rung;
use tokio::sync::mpsc;

use super::engine::Engines;
use super::{Job, Made, Orders, TranscodeError};
use crate::gpus::Gpus;
use crate::hub::Units;

/// Units made that wait to be taken, which happens at once. What is passed through is as large as a publisher's messages
/// (`limits.rtmp_message_bytes`), so they are few.
const QUEUE: usize = 16;
/// Breakdowns in a row, none after a [`GOOD_RUN`], after which a job is given up.
const BREAKDOWNS_MAX: u32 = 5;
/// A job that ran so long is well: what breaks it then is counted anew.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// For a worker whose card is lost to say so itself.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A job's stream.
pub(crate) trait Sink: Send + 'static {
    /// What the job works on, from here on; `None` when there is nothing any more. `again`: it broke down
    /// before.
    fn input(&self, again: bool) -> Option<Units>;

    /// Takes what was made. `false`: nobody wants it any more.
    fn take(&self, made: Made) -> bool;

    /// The job has ended.
    fn ended(&self);
}

/// Starts `job` on threads of its own, which end when the input does, or when nobody wants what is made. Pictures are
/// worked on by one of the cards, if one has room.
///
/// # Errors
/// [`TranscodeError::Thread`] when not even the first thread can be started.
pub(crate) fn start(
    job: Job,
    gpus: &Arc<Gpus>,
    orders: Arc<Orders>,
    sink: impl Sink,
) -> Result<(), TranscodeError> {
    let engines = Arc::new(Engines::new(Arc::clone(gpus)));
    let name = format!("job {}", job.name);
    // Subscribed here, so that nothing of what comes next is missed.
    let input = sink.input(false);
    Builder::new().name(name).spawn(move || supervise(&Arc::new(job), &orders, &engines, &sink, input))?;
    Ok(())
}

fn supervise(
    job: &Arc<Job>,
    orders: &Arc<Orders>,
    engines: &Arc<Engines>,
    sink: &impl Sink,
    mut input: Option<Units>,
) {
    let mut breakdowns = 0;
    while let Some(units) = input {
        let began = clock::now();
        let mut rungs = BTreeSet::new();
        let Err(error) = run_once(job, orders, engines, units, sink, &mut rungs) else { break };
        breakdowns += 1;
        if clock::now().duration_since(began) >= GOOD_RUN {
            breakdowns = 1;
            engines.forgive();
        }
        orders.broke_down(error.cause());
        tracing::warn!(%error, job = job.name, breakdowns, "a transcoder broke down");
        if breakdowns >= BREAKDOWNS_MAX {
            tracing::error!(job = job.name, "a transcoder is given up");
            break;
        }
        for rung in rungs {
            sink.take(Made::Unit(rung, Unit::Discontinuity));
        }
        input = sink.input(true);
    }
    sink.ended();
}

fn run_once(
    job: &Arc<Job>,
    orders: &Arc<Orders>,
    engines: &Arc<Engines>,
    input: Units,
    sink: &impl Sink,
    rungs: &mut BTreeSet<Rung>,
) -> Result<(), TranscodeError> {
    let (output, mut made) = mpsc::channel(QUEUE);
    engines.leave();
    let watched = Arc::clone(engines);
    let (job, orders, engines) = (Arc::clone(job), Arc::clone(orders), Arc::clone(engines));
    let work = move || work(&job, &orders, &engines, input, output);
    let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let worker = Builder::new().name("transcoder".to_owned()).spawn(work)?;
    while let Some(made) = waiting.block_on(next(&mut made, &watched))? {
        if let Made::Unit(rung, _) = &made {
            rungs.insert(*rung);
        }
        if !sink.take(made) {
            break;
        }
    }
    drop(made);
    worker.join().unwrap_or(Err(TranscodeError::Broken))
}

/// What is made next; `None` when the worker ends.
///
/// # Errors
/// [`TranscodeError::CardLost`] when the worker hangs in the driver of its card. It is left behind, and ends when that
/// lets it go.
async fn next(made: &mut mpsc::Receiver<Made>, engines: &Engines) -> Result<Option<Made>, TranscodeError> {
    tokio::select! {
        biased;
        made = made.recv() => return Ok(made),
        () = engines.card_lost() => {}
    }
    tokio::time::timeout(LAST_WORD, made.recv()).await.map_err(|_| {
        engines.left_behind();
        TranscodeError::CardLost
    })
}

#[cfg(feature = "ffmpeg")]
fn work(
    job: &Job,
    orders: &Arc<Orders>,
    engines: &Engines,
    input: Units,
    output: mpsc::Sender<Made>,
) -> Result<(), TranscodeError> {
    match super::pipeline::run(job, orders, engines, input, output) {
        Err(TranscodeError::Unwanted) => Ok(()),
        ended => ended,
    }
}

#[cfg(not(feature = "ffmpeg"))]
fn work(
    _: &Job,
    _: &Arc<Orders>,
    _: &Engines,
    _: Units,
    _: mpsc::Sender<Made>,
) -> Result<(), TranscodeError> {
    Err(TranscodeError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::transcode::{AudioPlan, VideoPlan};

    /// A stream without units, whose job is wanted `left` times.
    struct Empty {
        left: AtomicU32,
        ended: std::sync::mpsc::Sender<()>,
    }

    impl Sink for Empty {
        fn input(&self, _: bool) -> Option<Units> {
            let more = self.left.fetch_sub(1, Ordering::Relaxed) > 0;
            more.then(|| crate::hub::units(1, 1).1)
        }

        fn take(&self, _: Made) -> bool {
            true
        }

        fn ended(&self) {
            self.ended.send(()).unwrap();
        }
    }

    #[test]
    fn a_job_ends_with_its_input() {
        let (ended, told) = std::sync::mpsc::channel();
        let job = Job { name: "test".to_owned(), video: VideoPlan::InOrder, audio: AudioPlan::Opus };
        start(job, &Arc::default(), Arc::default(), Empty { left: AtomicU32::new(1), ended }).unwrap();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
