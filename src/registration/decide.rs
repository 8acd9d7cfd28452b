//! What must be done about the registration, as a pure function.

use crate::voltus::{Webhook, WebhookId, WebhookUrl};

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is registered, once and whole.
    Nothing,
    /// There is none that will do. Others, if any, are deleted once there is.
    Register,
    /// There is one that will do, and these beside it.
    Delete(Vec<WebhookId>),
}

/// What must be done so that `wanted` is registered once for all events, given
/// the registrations there are. `own` is the one that was made for it, however
/// its URL is written there. Those of other listeners are nobody's business
/// here.
pub fn decide(list: &[Webhook], wanted: &WebhookUrl, own: Option<&WebhookId>) -> Action {
    let ours = || list.iter().filter(|w| w.url.is_of_listener(wanted));
    let fits = |webhook: &&Webhook| {
        webhook.is_whole() && (webhook.url.is_same(wanted) || Some(&webhook.id) == own)
    };
    let Some(kept) = ours().find(fits) else {
        return Action::Register;
    };
    let others: Vec<WebhookId> = ours()
        .map(|webhook| &webhook.id)
        .filter(|id| **id != kept.id)
        .cloned()
        .collect();
    if others.is_empty() {
        Action::Nothing
    } else {
        Action::Delete(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[&str] = &["dispatch.create", "dispatch.update"];

    fn webhook(id: &str, path: &str, events: &[&str]) -> Webhook {
        Webhook {
            id: id.parse().unwrap(),
            url: WebhookUrl::new(format!("https://a.example{path}")),
            events: events.iter().map(ToString::to_string).collect(),
        }
    }

    fn decided(list: &[Webhook]) -> Action {
        let wanted = WebhookUrl::new("https://a.example/dispatch-listener/new");
        decide(list, &wanted, None)
    }

    fn delete(ids: &[&str]) -> Action {
        Action::Delete(ids.iter().map(|id| id.parse().unwrap()).collect())
    }

    #[test]
    fn one_that_is_whole_is_left_alone() {
        let good = webhook("a", "/dispatch-listener/new", BOTH);
        assert_eq!(decided(std::slice::from_ref(&good)), Action::Nothing);
        let more = webhook(
            "a",
            "/dispatch-listener/new",
            &["x", "dispatch.update", "dispatch.create"],
        );
        assert_eq!(decided(&[more]), Action::Nothing);
    }

    #[test]
    fn where_none_will_do_one_is_made_before_any_is_deleted() {
        for list in [
            vec![],
            vec![webhook("a", "/dispatch-listener/new", &BOTH[..1])],
            vec![webhook("a", "/dispatch-listener/old", BOTH)],
            vec![webhook("a", "/dispatch-listener", BOTH)],
            vec![webhook("a", "/elsewhere", BOTH)],
        ] {
            assert_eq!(decided(&list), Action::Register, "{list:?}");
        }
    }

    #[test]
    fn once_there_is_one_the_former_ones_go_and_others_stay() {
        let list = [
            webhook("lacks", "/dispatch-listener/new", &BOTH[1..]),
            webhook("old", "/dispatch-listener/old", BOTH),
            webhook("open", "/dispatch-listener", BOTH),
            webhook("theirs", "/other/dispatch-listener/new", BOTH),
            webhook("kept", "/dispatch-listener/new", BOTH),
            webhook("twice", "/dispatch-listener/new", BOTH),
        ];
        assert_eq!(decided(&list), delete(&["lacks", "old", "open", "twice"]));
    }

    #[test]
    fn what_was_made_here_will_do_however_the_api_writes_it() {
        let list = [webhook("a", "/dispatch-listener/new/", BOTH)];
        let wanted = WebhookUrl::new("https://a.example/dispatch-listener/new");
        let own = "a".parse().unwrap();
        assert_eq!(decide(&list, &wanted, None), Action::Register);
        assert_eq!(decide(&list, &wanted, Some(&own)), Action::Nothing);
    }
}
