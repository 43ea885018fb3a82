//! What becomes of one message of a world: each in turn, where chance would take long to hit it.

use super::{Metrics, PATIENCE_MS, Scenario, World};
use crate::world::Broken;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives twice: the second time when what it was about may be over.
    Doubled,
    /// It arrives when its reader has given it up.
    Late,
}

/// All of them.
pub const FATES: [Fate; 3] = [Fate::Lost, Fate::Doubled, Fate::Late];

/// Runs a scenario from a seed, with this fate for the message of this number; also returns how many
/// messages there were.
pub fn run_with_fate(
    scenario: &Scenario,
    seed: u64,
    fate: Option<(u64, Fate)>,
) -> Result<(Metrics, u64), Broken> {
    let mut world = World::new(scenario, seed, fate);
    let metrics = world.run()?;
    Ok((metrics, world.messages))
}

impl World<'_> {
    /// The ways of the next message, which would go these.
    pub(super) fn fated(&mut self, mut ways: Vec<u64>) -> Vec<u64> {
        let number = self.messages;
        self.messages += 1;
        match self.fate.filter(|(of, _)| *of == number) {
            Some((_, Fate::Lost)) => ways.clear(),
            Some((_, Fate::Doubled)) => ways.extend(ways.first().map(|way| way + 2 * PATIENCE_MS)),
            Some((_, Fate::Late)) => ways.iter_mut().for_each(|way| *way += 2 * PATIENCE_MS),
            None => {}
        }
        ways
    }
}
