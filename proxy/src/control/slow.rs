//! The loop that learns from when on an answer is slow, for each service that wants it learned.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::live::Live;
use crate::live::slow::SlowLearner;
use crate::model::spec::SlowThreshold;

/// How often the counters are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Learns for ever.
pub async fn learn(live: Arc<Live>) {
    let mut learners: HashMap<String, SlowLearner> = HashMap::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look(&live, &mut learners, looks.tick().await);
    }
}

fn look(live: &Live, learners: &mut HashMap<String, SlowLearner>, now: Instant) {
    let snapshot = live.snapshot();
    let learns = |name: &str| {
        let service = snapshot.service(name);
        service.is_some_and(|s| s.spec.split.is_some() && s.spec.verdict.slow == SlowThreshold::Learned)
    };
    learners.retain(|name, _| learns(name));
    for service in snapshot.services().iter().filter(|service| learns(&service.spec.name)) {
        let counted = service.live.timed();
        let Some(learner) = learners.get_mut(&service.spec.name) else {
            learners.insert(service.spec.name.clone(), SlowLearner::new(now, counted));
            continue;
        };
        if let Some(threshold) = learner.look(now, &counted) {
            tracing::debug!(service = %service.spec.name, ?threshold, "Learned from when on an answer is slow");
            service.live.set_learned_slow(threshold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::sample::{self, publish};
    use crate::live::service::Ending;
    use crate::model::split::Arm;
    use crate::model::state::State;

    #[tokio::test(start_paused = true)]
    async fn both_arms_teach_what_is_slow_and_untimed_answers_do_not() {
        let (live, _reports) = Live::new(1);
        publish(&live, &[Arc::new(sample::service("shop"))], &State::default());
        let shop = live.service("shop");
        let learning = tokio::spawn(learn(Arc::clone(&live)));
        tokio::time::sleep(2 * LOOK).await;
        let answer = |arm, millis| shop.count(0, arm, Ending::Status(200), Some(Duration::from_millis(millis)));
        (0..900).for_each(|_| answer(Arm::Stable, 20));
        for _ in 0..100 {
            answer(Arm::Stable, 30_000);
            shop.count_untimed(0, Duration::from_secs(30));
        }
        tokio::time::sleep(2 * LOOK).await;
        assert_eq!(shop.slow_threshold(SlowThreshold::Learned), None, "900 tell nothing");
        (0..100).for_each(|_| answer(Arm::Canary, 90));
        tokio::time::sleep(2 * LOOK).await;
        let learned = shop.slow_threshold(SlowThreshold::Learned).expect("a thousand tell something");
        assert!((90..115).contains(&learned.as_millis()), "{learned:?}");
        let fixed = Duration::from_secs(1);
        assert_eq!(shop.slow_threshold(SlowThreshold::Fixed(fixed)), Some(fixed));
        learning.abort();
    }
}
