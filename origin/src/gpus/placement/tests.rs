//! Laws of the placement on cards, and their rests.

use proptest::prelude::*;
use sluicegate_cluster::clock;

use super::*;

const LIMITS: CardLimits = CardLimits { busy_percent: 75.0, memory_percent: 75.0 };

fn card(capacity_mpx: f64, encodes: bool, now: Instant) -> CardState {
    let mut card = CardState::new();
    card.read(Gpu { memory_total: 64 << 30, ..Gpu::default() }, now);
    card.tried(Some(Ability { decodes: true, encodes, capacity_mpx }), now);
    card
}

fn wanted(mpx: f64) -> Wanted<'static> {
    Wanted { mpx, avoid: &[], encoder: EncoderChoice::Auto, decoder: DecoderChoice::Auto }
}

fn chosen(cards: &[CardState], wanted: &Wanted<'_>, now: Instant) -> Option<usize> {
    choose(cards, wanted, LIMITS, now).map(|(index, _)| index)
}

#[test]
fn a_card_that_encodes_goes_first_and_the_choices_are_obeyed() {
    let now = clock::now();
    let cards = [card(5_000.0, false, now), card(1_000.0, true, now)];
    let choice = |encoder, decoder| {
        choose(&cards, &Wanted { encoder, decoder, ..wanted(60.0) }, LIMITS, now)
            .map(|(index, work)| (index, work.decodes, work.encodes))
    };
    assert_eq!(choice(EncoderChoice::Auto, DecoderChoice::Auto), Some((1, true, true)));
    assert_eq!(choice(EncoderChoice::Nvenc, DecoderChoice::Software), Some((1, false, true)));
    assert_eq!(choice(EncoderChoice::X264, DecoderChoice::Auto), Some((0, true, false)));
    assert_eq!(choice(EncoderChoice::X264, DecoderChoice::Software), None, "nothing is left for a card");
    assert_eq!(chosen(&cards, &wanted(2_000.0), now), Some(0));
    assert_eq!(chosen(&cards, &Wanted { encoder: EncoderChoice::Nvenc, ..wanted(2_000.0) }, now), None);
    assert_eq!(chosen(&cards, &Wanted { avoid: &[1], ..wanted(60.0) }, now), Some(0));
}

#[test]
fn a_busy_or_full_or_silent_card_gets_nothing_more() {
    let now = clock::now();
    let mut busy = card(1_000.0, true, now);
    assert_eq!(chosen(&[busy.clone()], &wanted(60.0), now), Some(0));
    let reading =
        |encoder, memory_used| Gpu { encoder, memory_used, memory_total: 64 << 30, ..Gpu::default() };
    busy.read(reading(100, 0), now);
    assert_eq!(chosen(&[busy.clone()], &wanted(60.0), now), Some(0), "a peak");
    (0..10).for_each(|_| busy.read(reading(100, 0), now));
    assert_eq!(chosen(&[busy.clone()], &wanted(60.0), now), None);
    let mut full = card(1_000.0, true, now);
    full.read(reading(0, 49 << 30), now);
    assert_eq!(chosen(&[full.clone()], &wanted(60.0), now), None);
    full.read(reading(0, 47 << 30), now);
    assert_eq!(chosen(&[full.clone()], &wanted(60.0), now), Some(0));
    (0..4).for_each(|_| full.place(1.0));
    assert_eq!(chosen(&[full.clone()], &wanted(60.0), now), None, "four more take a GiB");
    full.read(reading(0, 47 << 30), now);
    assert_eq!(chosen(&[full.clone()], &wanted(60.0), now), Some(0), "they took less");
    assert_eq!(chosen(&[full], &wanted(60.0), now + SILENT_AFTER + SILENT_AFTER), None);
}

#[test]
fn a_card_that_errs_has_a_trial_and_rests_longer_each_time_it_fails() {
    let now = clock::now();
    let mut card = card(1_000.0, true, now);
    card.failed(now);
    assert_eq!(chosen(&[card.clone()], &wanted(60.0), now), None);
    let mut rests = Vec::new();
    let mut at = now;
    for _ in 0..9 {
        assert!(card.is_trial_due(at));
        card.tried(None, at);
        let Health::Resting { until } = card.health else { panic!("{card:?}") };
        assert!(!card.is_trial_due(at) && card.is_trial_due(until));
        rests.push((until - at).as_secs());
        at = until;
    }
    assert_eq!(rests, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    let ability = card.ability;
    card.tried(Some(ability), at);
    card.read(Gpu { memory_total: 64 << 30, ..Gpu::default() }, at);
    assert_eq!(chosen(&[card.clone()], &wanted(60.0), at), Some(0));
    card.failed(at + FORGIVEN_AFTER);
    card.tried(None, at + FORGIVEN_AFTER);
    assert_eq!(card.health, Health::Resting { until: at + FORGIVEN_AFTER + REST_MIN });
}

prop_compose! {
    fn any_card(now: Instant)(
        capacity in 0.0..2_000.0_f64, encodes: bool, decodes: bool, placed in 0.0..2_000.0_f64,
        busy in 0..=100_u32, used in 0..=64_u64, state in 0..4_u8, age_s in 0..8_u64,
    ) -> CardState {
        let read_at = now.checked_sub(Duration::from_secs(age_s)).unwrap_or(now);
        let mut card = CardState::new();
        card.read(Gpu { gpu: busy, memory_used: used << 30, memory_total: 64 << 30, ..Gpu::default() }, read_at);
        card.tried(Some(Ability { decodes, encodes, capacity_mpx: capacity }), now);
        card.placed_mpx = placed;
        match state {
            0 => card.failed(now),
            1 => card.tried(None, now),
            _ => {}
        }
        card
    }
}

proptest! {
    #[test]
    fn the_chosen_card_is_well_has_room_and_none_has_more(
        (now, cards) in Just(clock::now())
            .prop_flat_map(|now| (Just(now), proptest::collection::vec(any_card(now), 0..8))),
        mpx in 1.0..500.0_f64,
        avoid in proptest::collection::vec(0..8_usize, 0..3),
    ) {
        let wanted = Wanted { avoid: &avoid, ..wanted(mpx) };
        let room = |card: &CardState| card.ability.capacity_mpx - card.placed_mpx;
        let may = |(index, card): &(usize, &CardState)| {
            let (reading, at) = card.reading.as_ref().unwrap();
            matches!(card.health, Health::Good { .. })
                && now.duration_since(*at) <= SILENT_AFTER
                && reading.gpu <= 75
                && reading.memory_used + STREAM_BYTES <= 48 << 30
                && (card.ability.encodes || card.ability.decodes)
                && room(card) >= mpx
                && !avoid.contains(index)
        };
        let able: Vec<_> = cards.iter().enumerate().filter(may).collect();
        match choose(&cards, &wanted, LIMITS, now) {
            None => prop_assert!(able.is_empty(), "{able:?}"),
            Some((index, work)) => {
                let (_, card) = able.iter().find(|(able, _)| *able == index).expect("one that may");
                prop_assert_eq!(work.encodes, card.ability.encodes);
                prop_assert_eq!(work.decodes, card.ability.decodes);
                for (_, other) in &able {
                    prop_assert!(other.ability.encodes <= work.encodes);
                    prop_assert!(other.ability.encodes != work.encodes || room(other) <= room(card));
                }
            }
        }
    }

    #[test]
    fn equal_streams_are_spread_over_equal_cards(cards in 1..8_usize, streams in 0..60_usize) {
        let now = clock::now();
        let mut cards = vec![card(1_000.0, true, now); cards];
        let mut taken = 0;
        for _ in 0..streams {
            if let Some(index) = chosen(&cards, &wanted(50.0), now) {
                cards[index].place(50.0);
                taken += 1;
            }
        }
        prop_assert_eq!(taken, streams.min(cards.len() * 20));
        let most = cards.iter().map(|card| card.placed_mpx).fold(0.0, f64::max);
        let least = cards.iter().map(|card| card.placed_mpx).fold(f64::MAX, f64::min);
        prop_assert!(most - least <= 50.0 + 1e-9);
        cards.iter_mut().for_each(|card| (0..20).for_each(|_| card.release(50.0)));
        prop_assert!(cards.iter().all(|card| card.placed_mpx.abs() < 1e-9));
    }
}
