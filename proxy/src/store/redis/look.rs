//! What a proxy reads, and where: from the mirror where there is a fresh one, else from the primary.
//!
//! A mirror is behind the primary by nature, so it is never believed where that would matter: what the primary
//! rang for, what is older than what is known here, and whose lease runs is asked of the primary itself. While
//! that can't be asked, what is known stays.

use std::sync::Arc;

use super::bell::{Bell, Teller};
use super::codec::Decoded;
use super::connection::{Down, Line};
use super::keys::Keys;
use super::mirror::Mirror;
use super::read;
use crate::model::redis::Mirrored;
use crate::model::split::Arm;
use crate::model::state::{Member, ServiceState, State};
use crate::store::lease;

/// Who reads.
#[derive(Debug)]
pub(super) struct Looker {
    keys: Keys,
    primary: Line,
    mirror: Option<Mirror>,
    bell: Arc<Bell>,
}

impl Looker {
    /// Looks over this line, and at the mirror if there is one.
    pub(super) const fn new(keys: Keys, primary: Line, mirror: Option<Mirror>, bell: Arc<Bell>) -> Self {
        Self { keys, primary, mirror, bell }
    }

    /// How the mirror is doing, if there is one.
    pub(super) fn mirror(&self) -> Option<Mirrored> {
        self.mirror.as_ref().map(Mirror::health)
    }

    /// What the store holds of these services, in their order.
    pub(super) async fn look(&self, names: &[String], last_good: &State) -> Result<Vec<Decoded>, Down> {
        let rung_for = self.bell.take_by_primary(names);
        let mirrored = match &self.mirror {
            Some(mirror) => mirror.read(&self.keys, names, last_good).await,
            None => None,
        };
        // Until it answers, the primary is asked for what it rang for.
        let ask_again = || rung_for.iter().for_each(|name| self.bell.note(name.clone(), Teller::Primary));
        let Some(mut found) = mirrored else {
            return self.ask(names, last_good).await.inspect_err(|_| ask_again());
        };
        let nothing = ServiceState::default();
        let known = |name: &String| last_good.get(name).unwrap_or(&nothing);
        let is_doubtful = |at: &usize| {
            let (name, copy) = (&names[*at], &found[*at]);
            let is_behind = copy.state.revision < known(name).revision;
            is_behind || rung_for.contains(name) || lease::leased(&copy.sound).next().is_some()
        };
        let doubtful: Vec<usize> = (0..names.len()).filter(is_doubtful).collect();
        if doubtful.is_empty() {
            return Ok(found);
        }
        let asked: Vec<String> = doubtful.iter().map(|at| names[*at].clone()).collect();
        match self.ask(&asked, last_good).await {
            Ok(answers) => doubtful.into_iter().zip(answers).for_each(|(at, answer)| found[at] = answer),
            Err(_) => {
                ask_again();
                doubtful.into_iter().for_each(|at| {
                    found[at] = std::mem::take(&mut found[at]).beside(known(&names[at]));
                });
            }
        }
        Ok(found)
    }

    /// What the primary holds.
    async fn ask(&self, names: &[String], last_good: &State) -> Result<Vec<Decoded>, Down> {
        read_over(&self.primary, &self.keys, names, last_good).await
    }
}

/// What the server of this line holds of these services, in their order.
pub(super) async fn read_over(
    line: &Line,
    keys: &Keys,
    names: &[String],
    last_good: &State,
) -> Result<Vec<Decoded>, Down> {
    let mut held = line.take().await?;
    let found = match read::services(&mut held.connection, keys, names, last_good).await {
        Ok(found) => found,
        Err(error) => {
            held.renew_after(error).await?;
            read::services(&mut held.connection, keys, names, last_good).await?
        }
    };
    held.check_schema().await?;
    held.keep();
    Ok(found)
}

impl Decoded {
    /// What a mirror's copy is worth while the primary can't be asked: what is known stays where the copy is older,
    /// and leased members stay as they were.
    fn beside(self, known: &ServiceState) -> Self {
        if self.state.revision < known.revision {
            return Self { state: known.clone(), sound: known.clone(), known: true, ..Self::default() };
        }
        let mut copy = self;
        for arm in Arm::BOTH {
            let (there, lives) = (copy.sound.pools.get(arm), known.pools.get(arm));
            let leased = |member: &&Member| member.spec().and_then(lease::ttl).is_some();
            let kept = there.iter().filter(|(id, member)| leased(member) && lives.contains_key(*id));
            let kept: Vec<(String, Member)> = kept.map(|(id, member)| (id.clone(), member.clone())).collect();
            copy.state.pools.get_mut(arm).extend(kept);
        }
        copy
    }
}
