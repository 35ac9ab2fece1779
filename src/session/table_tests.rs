//! What the table costs.

use super::*;

const PLAIN: Options = Options {
    qos: QoS::AtMostOnce,
    no_local: false,
    retain_as_published: false,
    retain_handling: RetainHandling::Always,
    subscription_id: None,
};

#[test]
fn subscriptions_that_are_refused_or_given_up_leave_no_room_behind() {
    let filters: Vec<String> = (0..1000).map(|n| format!("t/{n}")).collect();
    let names = || filters.iter().map(String::as_str);
    for granted in [1, 1000] {
        let mut all = Subscriptions::default();
        let requested = all.request(names().map(Ok), 1000);
        for (at, asked) in requested.into_iter().enumerate() {
            let answer = if at < granted {
                ReasonCode::Success
            } else {
                ReasonCode::TopicFilterInvalid
            };
            all.decide(Ticket(0), asked, PLAIN, answer);
        }
        all.forget_refused();
        assert_eq!(all.table.len(), granted);
        if granted == 1 {
            assert!(all.table.capacity() <= SPARE, "{}", all.table.capacity());
        }
        all.remove(names().skip(1));
        assert_eq!(all.all()[0].filter.as_ref(), "t/0");
        assert!(all.table.capacity() <= SPARE, "{}", all.table.capacity());
    }
}
