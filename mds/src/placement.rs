//! Which OSTs a file's stripes go to.
//!
//! Round robin while the OSTs have about the same free space, so that neighbours in time spread
//! evenly; else drawn by free space, so that the emptier ones catch up. Lustre calls the two
//! `lod_alloc_rr` and `lod_alloc_qos` and changes over at the same 17 %.

use nacre_model::{Effect, Errno, OstIndex, Retry, ServiceError};
use rand::Rng;

/// Free space may differ by so much of the largest before it decides, in percent.
/// Lustre: `qos_threshold_rr`.
pub const BALANCED_PERCENT: u64 = 17;
/// An OST with less free space, in bytes, takes no new objects.
pub const FULL_BYTES: u64 = 1 << 20;

/// An OST as placement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub index: OstIndex,
    /// Its server lives, and it is open for new objects.
    pub open: bool,
    /// Bytes that may still be written; `None` until its first answer.
    pub bytes_available: Option<u64>,
    /// Objects that may still be made; `None` until its first answer.
    pub objects_free: Option<u64>,
}

impl Candidate {
    fn usable(&self) -> bool {
        let room = self.bytes_available.is_none_or(|bytes| bytes >= FULL_BYTES);
        self.open && room && self.objects_free != Some(0)
    }
}

/// What a component of a layout asks for.
#[derive(Debug, Clone, Default)]
pub struct Wish<'a> {
    /// How many OSTs; `None` means all.
    pub stripe_count: Option<u16>,
    /// The OST that shall have stripe 0.
    pub stripe_index: Option<OstIndex>,
    /// Exactly these, in this order; empty for free choice.
    pub ost_list: &'a [OstIndex],
    /// Only members of this pool, given by name and members.
    pub pool: Option<(&'a str, &'a [OstIndex])>,
    /// Not these: the client has just seen them fail.
    pub avoid: &'a [OstIndex],
}

/// Why there are no OSTs for a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The pool was destroyed, or never was.
    #[error("no pool `{0}` in this file system: `lfs pool_list` shows those that exist")]
    NoPool(String),
    /// The layout names an OST that the file system, or its pool, does not have.
    #[error("{ost} is not {of}: `lfs osts` shows those that exist")]
    NoOst {
        /// Which.
        ost: OstIndex,
        /// Where it is not.
        of: String,
    },
    /// An OST was asked for by name and cannot take objects.
    #[error("{0}, named by the layout, is down, full or closed for new objects")]
    Unusable(OstIndex),
    /// The MGS has not been heard of since the start.
    #[error("no cluster map yet: the mgs does not answer")]
    NoMap,
    /// None can take objects.
    #[error("none of {count} OSTs can take new objects: they are down, full or closed")]
    NoSpace {
        /// How many were looked at.
        count: usize,
    },
}

impl ServiceError for PlacementError {
    fn errno(&self) -> Errno {
        match self {
            Self::NoPool(_) | Self::NoOst { .. } => Errno::EINVAL,
            Self::Unusable(_) | Self::NoSpace { .. } => Errno::ENOSPC,
            Self::NoMap => Errno::EAGAIN,
        }
    }
    fn retry(&self) -> Retry {
        match self {
            // It comes when the MGS does.
            Self::NoMap => Retry::SameTarget,
            Self::NoPool(_) | Self::NoOst { .. } | Self::Unusable(_) | Self::NoSpace { .. } => {
                Retry::Never
            }
        }
    }
    fn effect(&self) -> Effect {
        Effect::None
    }
}

/// Chooses OSTs; remembers whose turn it is.
#[derive(Debug)]
pub struct Placer<R> {
    last: Option<OstIndex>,
    random: R,
}

impl<R: Rng> Placer<R> {
    /// Draws from `random` when space is unbalanced.
    pub fn new(random: R) -> Self {
        Self { last: None, random }
    }

    /// OSTs for one component, in stripe order: as many as wished, or as there are.
    /// `osts` ascend by index.
    pub fn place(
        &mut self,
        wish: &Wish<'_>,
        osts: &[Candidate],
    ) -> Result<Vec<OstIndex>, PlacementError> {
        check_named(wish, osts)?;
        if !wish.ost_list.is_empty() {
            return listed(wish, osts);
        }
        let member = |index| wish.pool.is_none_or(|(_, members)| members.contains(&index));
        let (mut usable, mut looked_at) = (Vec::new(), 0);
        for ost in osts.iter().filter(|ost| member(ost.index)) {
            looked_at += 1;
            if ost.usable() && !wish.avoid.contains(&ost.index) {
                usable.push(*ost);
            }
        }
        if usable.is_empty() {
            return Err(PlacementError::NoSpace { count: looked_at });
        }
        let count = wish.stripe_count.map_or(usable.len(), usize::from).clamp(1, usable.len());
        if let Some(first) = wish.stripe_index {
            return Ok(ring(&usable, count, |index| index >= first));
        }
        if count == usable.len() || balanced(&usable) {
            let last = self.last;
            let chosen = ring(&usable, count, |index| last.is_none_or(|last| index > last));
            self.last = chosen.last().copied();
            return Ok(chosen);
        }
        Ok(self.draw(usable, count))
    }

    fn draw(&mut self, mut usable: Vec<Candidate>, count: usize) -> Vec<OstIndex> {
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count && !usable.is_empty() {
            let total: u128 = usable.iter().map(weight).sum();
            let mut point = self.random.random_range(0..total.max(1));
            let at = usable.iter().position(|ost| {
                let hit = point < weight(ost);
                point = point.saturating_sub(weight(ost));
                hit
            });
            chosen.push(usable.remove(at.unwrap_or(0)).index);
        }
        chosen
    }
}

/// Never 0. An OST that has not answered yet counts as nearly full.
fn weight(ost: &Candidate) -> u128 {
    u128::from(ost.bytes_available.unwrap_or(FULL_BYTES)).max(1)
}

fn check_named(wish: &Wish<'_>, osts: &[Candidate]) -> Result<(), PlacementError> {
    for ost in wish.ost_list.iter().chain(&wish.stripe_index).copied() {
        if !osts.iter().any(|candidate| candidate.index == ost) {
            return Err(PlacementError::NoOst { ost, of: "in this file system".to_owned() });
        }
        if let Some((pool, members)) = wish.pool
            && !members.contains(&ost)
        {
            return Err(PlacementError::NoOst { ost, of: format!("in pool `{pool}`") });
        }
    }
    Ok(())
}

fn listed(wish: &Wish<'_>, osts: &[Candidate]) -> Result<Vec<OstIndex>, PlacementError> {
    for ost in osts.iter().filter(|ost| wish.ost_list.contains(&ost.index)) {
        if !ost.usable() || wish.avoid.contains(&ost.index) {
            return Err(PlacementError::Unusable(ost.index));
        }
    }
    Ok(wish.ost_list.to_vec())
}

/// `count` neighbours, from the first that satisfies `begin`, around the end.
fn ring(usable: &[Candidate], count: usize, begin: impl Fn(OstIndex) -> bool) -> Vec<OstIndex> {
    let first = usable.iter().position(|ost| begin(ost.index)).unwrap_or(0);
    usable.iter().cycle().skip(first).take(count).map(|ost| ost.index).collect()
}

/// OSTs that have not answered yet do not tip the scales.
fn balanced(usable: &[Candidate]) -> bool {
    let known = || usable.iter().filter_map(|ost| ost.bytes_available);
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    u128::from(most - least) * 100 <= u128::from(most) * u128::from(BALANCED_PERCENT)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn ost(index: u16, gib: u64) -> Candidate {
        Candidate {
            index: OstIndex(index),
            open: true,
            bytes_available: Some(gib << 30),
            objects_free: Some(1000),
        }
    }

    fn placer() -> Placer<StdRng> {
        Placer::new(StdRng::seed_from_u64(1))
    }

    fn indexes(chosen: Result<Vec<OstIndex>, PlacementError>) -> Vec<u16> {
        chosen.unwrap().into_iter().map(|index| index.0).collect()
    }

    fn count(n: u16) -> Wish<'static> {
        Wish { stripe_count: Some(n), ..Wish::default() }
    }

    #[test]
    fn balanced_osts_take_turns() {
        let osts = [ost(0, 100), ost(1, 95), ost(2, 90), ost(5, 100)];
        let mut placer = placer();
        assert_eq!(indexes(placer.place(&count(1), &osts)), [0]);
        assert_eq!(indexes(placer.place(&count(2), &osts)), [1, 2]);
        assert_eq!(indexes(placer.place(&count(2), &osts)), [5, 0]);
        assert_eq!(indexes(placer.place(&count(9), &osts)), [1, 2, 5, 0]);
        assert_eq!(indexes(placer.place(&Wish::default(), &osts)), [1, 2, 5, 0]);
    }

    #[test]
    fn emptier_osts_are_drawn_more_often() {
        let osts = [ost(0, 10), ost(1, 90)];
        let mut placer = placer();
        let hits = (0..1000).filter(|_| indexes(placer.place(&count(1), &osts)) == [1]).count();
        assert!((850..950).contains(&hits), "{hits} of 1000 for 90 % of the space");
    }

    #[test]
    fn a_draw_never_takes_an_ost_twice() {
        let osts = [ost(0, 10), ost(1, 90), ost(2, 50)];
        let mut placer = placer();
        for _ in 0..100 {
            let mut chosen = indexes(placer.place(&count(2), &osts));
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), 2);
        }
    }

    #[test]
    fn down_full_and_avoided_osts_are_passed_over() {
        let mut osts = [ost(0, 100), ost(1, 100), ost(2, 100), ost(3, 100)];
        osts[0].open = false;
        osts[1].bytes_available = Some(FULL_BYTES - 1);
        let wish = Wish { avoid: &[OstIndex(2)], ..count(3) };
        assert_eq!(indexes(placer().place(&wish, &osts)), [3]);
        osts[3].objects_free = Some(0);
        let refused = placer().place(&wish, &osts).unwrap_err();
        assert_eq!(
            (refused.errno(), &refused),
            (Errno::ENOSPC, &PlacementError::NoSpace { count: 4 })
        );
    }

    #[test]
    fn index_list_and_pool_are_honoured() {
        let osts = [ost(0, 100), ost(1, 100), ost(2, 100)];
        let pool: &[OstIndex] = &[OstIndex(0), OstIndex(2)];
        let from = Wish { stripe_index: Some(OstIndex(2)), ..count(2) };
        assert_eq!(indexes(placer().place(&from, &osts)), [2, 0]);
        let pooled = Wish { pool: Some(("fast", pool)), ..Wish::default() };
        assert_eq!(indexes(placer().place(&pooled, &osts)), [0, 2]);
        let list: &[OstIndex] = &[OstIndex(2), OstIndex(1)];
        let listed = Wish { ost_list: list, ..Wish::default() };
        assert_eq!(indexes(placer().place(&listed, &osts)), [2, 1]);
        let foreign = Wish { pool: Some(("fast", pool)), ..listed };
        let refused = placer().place(&foreign, &osts).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "OST0001 is not in pool `fast`: `lfs osts` shows those that exist"
        );
        assert_eq!(refused.errno(), Errno::EINVAL);
    }

    #[test]
    fn an_ost_that_has_not_answered_yet_does_not_tip_the_scales() {
        let mut osts = [ost(0, 100), ost(1, 100)];
        osts[1].bytes_available = None;
        let mut placer = placer();
        let turns: Vec<_> = (0..4).flat_map(|_| indexes(placer.place(&count(1), &osts))).collect();
        assert_eq!(turns, [0, 1, 0, 1]);
    }
}
