//! Cards that fail, and come back.

use std::sync::atomic::Ordering::SeqCst;

use sluicegate_cluster::config::{Settings, Sources};
use sluicegate_cluster::node::GpuState;

use super::testing::{FakeCard, gpus_of, until, watched};
use super::*;

fn cards<const N: usize>() -> [Arc<FakeCard>; N] {
    std::array::from_fn(|_| Arc::default())
}

fn settings() -> Settings {
    let sources = Sources { host_name: "host".to_owned(), ..Sources::default() };
    sources.load().unwrap()
}

fn health(gpus: &Gpus, index: usize) -> Health {
    gpus.lock().slots[index].state.health
}

fn is_good(gpus: &Gpus, index: usize) -> bool {
    matches!(health(gpus, index), Health::Good { .. })
}

#[test]
fn a_place_is_held_as_long_as_its_stream_is_there() {
    let gpus = gpus_of(&cards::<2>());
    let leases: Vec<Lease> = (0..4).filter_map(|_| gpus.place(200.0, &[])).collect();
    let mut on: Vec<usize> = leases.iter().map(|lease| lease.index).collect();
    on.sort_unstable();
    assert_eq!(on, [0, 0, 1, 1]);
    assert!(gpus.place(200.0, &[]).is_none(), "both are full");
    drop(leases);
    assert!(gpus.place(500.0, &[1]).is_some_and(|lease| lease.index == 0));
    gpus.stop();
}

#[test]
fn a_card_under_which_a_stream_broke_down_is_tried_and_comes_back_if_it_is_well() {
    let cards = cards::<1>();
    let gpus = gpus_of(&cards);
    let lease = gpus.place(100.0, &[]).unwrap();
    assert_eq!(cards[0].trials.load(SeqCst), 1);
    lease.failed();
    until("it is tried again", || cards[0].trials.load(SeqCst) == 2 && is_good(&gpus, 0));
    assert!(!lease.is_lost(), "others on it go on");
    cards[0].fails_trials.store(true, SeqCst);
    lease.failed();
    until("it rests", || matches!(health(&gpus, 0), Health::Resting { .. }));
    assert!(gpus.place(100.0, &[]).is_none());
    assert!(!lease.is_lost(), "its sessions may only be used up");
    gpus.stop();
}

#[test]
fn what_is_on_a_card_that_answers_no_more_is_told() {
    let cards = cards::<2>();
    let gpus = gpus_of(&cards);
    let leases = [gpus.place(100.0, &[1]).unwrap(), gpus.place(100.0, &[0]).unwrap()];
    cards[0].is_lost.store(true, SeqCst);
    until("it is noticed", || leases[0].is_lost());
    assert!(!leases[1].is_lost());
    until("it rests", || matches!(health(&gpus, 0), Health::Resting { .. }));
    assert!(gpus.place(100.0, &[]).is_some_and(|lease| lease.index == 1));
    gpus.stop();
}

#[test]
fn a_driver_that_hangs_holds_up_nothing_else() {
    let cards = cards::<2>();
    let gpus = gpus_of(&cards);
    let _hanging = cards[0].driver.lock().unwrap();
    let known = gpus.read();
    assert_eq!((known.len(), known[0].memory_total), (2, 8 << 30), "what was read last");
    let read_at = || gpus.lock().slots[1].state.reading.as_ref().map(|(_, at)| *at);
    let before = read_at();
    until("the other card is read", || read_at() != before);
    assert!(is_good(&gpus, 0), "not yet too long");
    gpus.stop();
}

#[test]
fn metrics_show_each_card_and_what_failed() {
    let registry = Registry::new();
    let cards = cards::<1>();
    let gpus = watched(Gpus::counted(&registry), &cards);
    let lease = gpus.place(100.0, &[]).unwrap();
    cards[0].fails_trials.store(true, SeqCst);
    lease.failed();
    until("it rests", || matches!(health(&gpus, 0), Health::Resting { .. }));
    assert_eq!(gpus.read().iter().map(|gpu| gpu.state).collect::<Vec<_>>(), [GpuState::Resting]);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "sluicegate_gpu_cards{state=\"resting\"} 1",
        "sluicegate_gpu_cards{state=\"good\"} 0",
        "sluicegate_gpu_failures_total{what=\"stream\"} 1",
        "sluicegate_gpu_failures_total{what=\"trial\"} 1",
        "sluicegate_gpu_memory_bytes{card=\"0\",memory=\"total\"} 8589934592",
        "sluicegate_gpu_mpx{card=\"0\",mpx=\"placed\"} 100",
        "sluicegate_gpu_streams{card=\"0\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    gpus.stop();
}

#[test]
fn a_machine_without_cards_starts_at_once_and_leaves_all_to_the_processors() {
    let settings = settings();
    let gpus = Gpus::start(&settings.origin, &settings.limits, Some(&Registry::new())).unwrap();
    if gpus.read().is_empty() {
        assert!(gpus.place(1.0, &[]).is_none() && gpus.report().is_empty());
        assert!(gpus.capacity_mpx().abs() < f64::EPSILON);
    }
    gpus.stop();
}
