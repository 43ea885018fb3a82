use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn id(n: u8) -> CallId {
    CallId::from_bytes([n; 16])
}

fn write(receipts: &mut Receipts, journal: &mut Vec<Record>, record: Option<Record>) {
    if let Some(record) = record {
        receipts.replay(record);
        journal.push(record);
    }
}

fn status(receipts: &Receipts, id: CallId) -> Option<RunStatus> {
    match receipts.look(id, Some(0), 1_000_000) {
        Known::Yes(receipt) => Some(receipt.status),
        _ => None,
    }
}

#[test]
fn a_machine_that_went_down_may_have_lost_what_was_not_on_disk() {
    let mut receipts = Receipts::default();
    let mut journal = Vec::new();
    for record in receipts.begin([1; 16], 1_000_000) {
        write(&mut receipts, &mut journal, Some(record));
    }
    let record = receipts.admit(id(1), 1_100_000).ok();
    write(&mut receipts, &mut journal, record);
    // The daemon alone was killed: what it wrote is all there.
    let mut killed = Receipts::default();
    journal.iter().for_each(|r| killed.replay(*r));
    let life = killed.begin([1; 16], 1_200_000);
    life.iter().for_each(|r| killed.replay(*r));
    assert_eq!(killed.look(id(2), Some(20_000), 1_200_000), Known::Never);
    assert_eq!(status(&killed, id(1)), Some(RunStatus::Interrupted));
    // Another boot: it may not be.
    let mut rebooted = Receipts::default();
    journal.iter().for_each(|r| rebooted.replay(*r));
    let life = rebooted.begin([2; 16], 1_200_000);
    life.iter().for_each(|r| rebooted.replay(*r));
    let asked = |age| rebooted.look(id(2), age, 1_300_000);
    assert_eq!(asked(Some(150_000)), Known::Forgotten { since_ms: 1_200_000 });
    assert_eq!(asked(None), Known::Forgotten { since_ms: 1_200_000 });
    assert_eq!(asked(Some(20_000)), Known::Never);
    assert_eq!(asked(Some(280_000)), Known::Never);
    // Unless it ended in order.
    let mut ended = Receipts::default();
    journal.iter().for_each(|r| ended.replay(*r));
    ended.replay(Record { at_ms: 1_150_000, what: What::Bye });
    let life = ended.begin([2; 16], 1_200_000);
    life.iter().for_each(|r| ended.replay(*r));
    assert_eq!(ended.look(id(2), Some(150_000), 1_300_000), Known::Never);
}

#[test]
fn a_torn_entry_leaves_a_gap() {
    let mut receipts = Receipts::default();
    receipts.replay(Record { at_ms: 1_000_000, what: What::Start { id: id(1) } });
    receipts.torn();
    receipts.replay(Record { at_ms: 1_100_000, what: What::Start { id: id(2) } });
    let asked = |age| receipts.look(id(9), Some(age), 1_200_000);
    assert_eq!(asked(150_000), Known::Forgotten { since_ms: 1_100_000 });
    assert_eq!(asked(50_000), Known::Never);
}

#[derive(Debug, Clone)]
enum Act {
    Admit(u8),
    End(u8, RunStatus),
    Ask(u8),
    Rotate,
    Restart,
}

fn any_act() -> impl Strategy<Value = Act> {
    let ends = vec![RunStatus::Completed, RunStatus::Error, RunStatus::Cancelled];
    prop_oneof![
        4 => (0..20u8).prop_map(Act::Admit),
        4 => (0..20u8, select(ends)).prop_map(|(n, status)| Act::End(n, status)),
        2 => (0..20u8).prop_map(Act::Ask),
        1 => Just(Act::Rotate),
        1 => Just(Act::Restart),
    ]
}

proptest! {
    /// Beside a model that forgets nothing: whatever the order, an id starts at most once while
    /// it is known, a final status stays, and a restart reads back what was said before.
    #[test]
    fn receipts_agree_with_a_model_that_forgets_nothing(acts in vec(any_act(), 0..120)) {
        let mut receipts = Receipts::default();
        let mut segments: [Vec<Record>; 2] = Default::default();
        let mut model: HashMap<CallId, RunStatus> = HashMap::new();
        let mut now = 1_000_000;
        for act in acts {
            now += 100;
            let mut record = None;
            match act {
                Act::Admit(n) => {
                    record = receipts.admit(id(n), now).ok();
                    // What the journal has forgotten may come again.
                    let known = status(&receipts, id(n)).is_some();
                    prop_assert_eq!(record.is_none(), known);
                    if record.is_some() {
                        model.insert(id(n), RunStatus::Running);
                    }
                }
                Act::End(n, status) => {
                    record = receipts.end(id(n), status, now);
                    let running = model.get(&id(n)) == Some(&RunStatus::Running);
                    prop_assert_eq!(record.is_some(), running, "what runs is never forgotten");
                    if running {
                        model.insert(id(n), status);
                    }
                }
                Act::Ask(n) => match receipts.look(id(n), Some(0), now) {
                    Known::Yes(receipt) => prop_assert_eq!(Some(&receipt.status), model.get(&id(n))),
                    Known::Never => {
                        prop_assert!(!model.contains_key(&id(n)));
                        record = receipts.rule_out(id(n), now);
                        model.insert(id(n), RunStatus::NotStarted);
                    }
                    Known::Forgotten { .. } => {}
                },
                Act::Rotate => {
                    let head = receipts.rotate(now);
                    segments.swap(0, 1);
                    segments[1] = head;
                }
                Act::Restart => {
                    let mut again = Receipts::default();
                    segments[0].iter().for_each(|r| again.replay(*r));
                    again.seam();
                    segments[1].iter().for_each(|r| again.replay(*r));
                    for record in again.begin([1; 16], now) {
                        again.replay(record);
                        segments[1].push(record);
                    }
                    for status in model.values_mut() {
                        if *status == RunStatus::Running {
                            *status = RunStatus::Interrupted;
                        }
                    }
                    receipts = again;
                }
            }
            if let Some(record) = record {
                receipts.replay(record);
                segments[1].push(record);
            }
        }
        for (id, known) in model {
            if let Some(told) = status(&receipts, id) {
                prop_assert_eq!(told, known);
            }
        }
    }
}
