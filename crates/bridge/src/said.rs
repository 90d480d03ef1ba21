//! What was said of each channel, so that nothing is said again and again.

use std::collections::HashMap;

use capnp_shm_bridge::Event;

/// Names of which it is known what was said last. Names may come from anywhere, and ever new ones.
const NAMES: usize = 1000;

/// What was said last of each channel.
#[derive(Debug, Default)]
pub struct Said(HashMap<String, String>);

impl Said {
    /// What is to be said of this event: nothing if it is a refusal that was said last.
    pub fn news(&mut self, name: &str, event: &Event) -> Option<String> {
        let text = event.to_string();
        if matches!(event, Event::Refused(_)) && self.0.get(name) == Some(&text) {
            return None;
        }
        if self.0.len() >= NAMES && !self.0.contains_key(name) {
            self.0.clear();
        }
        self.0.insert(name.to_owned(), text.clone());
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use capnp_shm_bridge::Refusal;

    use super::*;

    fn refused(reason: &str) -> Event {
        Event::Refused(Refusal::Here(reason.to_owned()))
    }

    #[test]
    fn a_refusal_is_said_again_only_after_something_else() {
        let mut said = Said::default();
        let mut is_news = |name: &str, event: &Event| said.news(name, event).is_some();
        assert!(is_news("x", &refused("no memory")));
        assert!(!is_news("x", &refused("no memory")));
        assert!(is_news("y", &refused("no memory")), "of another channel");
        assert!(is_news("x", &refused("no thread")), "for another reason");
        assert!(is_news("x", &Event::Bridged));
        assert!(is_news("x", &Event::Bridged), "each generation");
        assert!(is_news("x", &refused("no thread")));
    }

    #[test]
    fn ever_new_names_take_no_ever_more_memory() {
        let mut said = Said::default();
        for number in 0..3 * NAMES {
            assert!(said.news(&number.to_string(), &refused("unknown")).is_some());
            assert!(said.0.len() <= NAMES, "{number}");
        }
        // A name that is known drops no other.
        let mut said = Said::default();
        for number in 0..NAMES {
            said.news(&number.to_string(), &refused("unknown"));
        }
        said.news("0", &Event::Bridged);
        assert_eq!(said.news("1", &refused("unknown")), None);
    }
}
