//! Sleeping on a word between threads of one process, where the system has nothing that works between processes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What every sleeper of this process sleeps on, whatever its word: there are few, and each looks at its own.
static SLEEPERS: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

/// Sleeps while `word` holds `value`, at most `time`.
pub(super) fn sleep_while(word: &AtomicU32, value: u32, time: Duration) {
    let awake = SLEEPERS.0.lock().unwrap_or_else(PoisonError::into_inner);
    // Who changes the word before this look is seen here; who does so after it finds this thread asleep.
    let _ = SLEEPERS.1.wait_timeout_while(awake, time, |()| word.load(Ordering::Acquire) == value);
}

/// Wakes those whose words have changed.
pub(super) fn wake() {
    drop(SLEEPERS.0.lock().unwrap_or_else(PoisonError::into_inner));
    SLEEPERS.1.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_change_with_a_wake_ends_the_sleep_and_one_without_does_not_need_to() {
        let words = [AtomicU32::new(0), AtomicU32::new(0)];
        thread::scope(|scope| {
            let sleepers = words.each_ref().map(|word| scope.spawn(move || sleep_while(word, 0, LONG)));
            for (word, sleeper) in words.iter().zip(sleepers) {
                assert!(!sleeper.is_finished(), "woken for another's word");
                word.store(1, Ordering::Release);
                wake();
                sleeper.join().unwrap();
            }
        });
    }

    #[test]
    fn a_word_that_has_changed_before_is_not_slept_on() {
        sleep_while(&AtomicU32::new(1), 0, LONG);
    }

    #[test]
    fn time_ends_the_sleep() {
        let (began, time) = (Instant::now(), Duration::from_millis(2));
        sleep_while(&AtomicU32::new(0), 0, time);
        assert!(began.elapsed() >= time);
    }

    #[test]
    fn no_wake_is_lost() {
        let ball = AtomicU32::new(0);
        thread::scope(|scope| {
            for player in 0..2 {
                let ball = &ball;
                scope.spawn(move || {
                    for turn in (player..5_000).step_by(2) {
                        while ball.load(Ordering::Acquire) != turn {
                            sleep_while(ball, turn.wrapping_sub(1), LONG);
                        }
                        ball.store(turn + 1, Ordering::Release);
                        wake();
                    }
                });
            }
        });
        assert_eq!(ball.into_inner(), 5_000);
    }
}
