//! Sees to it that no number is used twice: two packets that are encrypted with one counter give the key away
//! (RFC 7714 section 8.4), whatever whoever counts does wrong.

/// How far back a number may lie behind the highest.
const WINDOW: u64 = 1_024;
const BITS: u64 = u64::BITS as u64;

/// The numbers that were used.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// One more than the highest.
    end: u64,
    used: [u64; (WINDOW / BITS) as usize],
}

impl Once {
    /// Uses a number. Whether it was free.
    pub(super) fn take(&mut self, number: u64) -> bool {
        if number >= self.end {
            let Some(end) = number.checked_add(1) else { return false };
            (self.end.max(end.saturating_sub(WINDOW))..end).for_each(|skipped| self.mark(skipped, false));
            self.end = end;
        }
        let is_free = self.is_near(number) && !self.is_marked(number);
        if is_free {
            self.mark(number, true);
        }
        is_free
    }

    /// Whether a number was used, and not too long ago to be sure.
    pub(super) fn has(&self, number: u64) -> bool {
        number < self.end && self.is_near(number) && self.is_marked(number)
    }

    fn is_near(&self, number: u64) -> bool {
        self.end - number.min(self.end) <= WINDOW
    }

    fn is_marked(&self, number: u64) -> bool {
        self.used.get(Self::word(number)).is_some_and(|word| word & (1 << (number % BITS)) != 0)
    }

    fn mark(&mut self, number: u64, used: bool) {
        if let Some(word) = self.used.get_mut(Self::word(number)) {
            let bit = 1 << (number % BITS);
            *word = if used { *word | bit } else { *word & !bit };
        }
    }

    fn word(number: u64) -> usize {
        ((number % WINDOW) / BITS) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_taken_once_and_near_ones_always(steps in proptest::collection::vec(-1_100..1_300_i64, 1..400)) {
            let (mut once, mut taken, mut highest) = (Once::default(), HashSet::new(), 5_000_u64);
            once.take(highest);
            taken.insert(highest);
            for step in steps {
                let number = highest.saturating_add_signed(step);
                let is_near = number + WINDOW > highest;
                let was_free = !taken.contains(&number);
                prop_assert_eq!(once.has(number), is_near && number <= highest && !was_free);
                prop_assert_eq!(once.take(number), is_near && was_free);
                if is_near {
                    taken.insert(number);
                }
                highest = highest.max(number);
            }
        }
    }
}
