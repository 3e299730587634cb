use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::key::Key;
use super::super::object::{Body, Object, Pairs};
use super::*;

/// Every state there ever was, whole.
struct Model {
    states: BTreeMap<u64, BTreeMap<String, (u64, u64, u8)>>,
    events: Vec<(u64, EventKind, String)>,
    revision: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, u8, u8, Kind)>),
    Compact(u8),
    List { namespace: u8, back: u8, limit: u8, after: Option<u8> },
    Watch { namespace: u8, back: u8 },
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put(Want),
    Delete(Want),
    Check(Want),
}

/// What an operation expects, told without knowing revisions.
#[derive(Clone, Copy, Debug)]
enum Want {
    Any,
    Absent,
    Right,
    Wrong,
}

fn step() -> impl Strategy<Value = Step> {
    let want =
        prop_oneof![4 => Just(Want::Any), 1 => Just(Want::Absent), 3 => Just(Want::Right), 1 => Just(Want::Wrong)];
    let kind = prop_oneof![
        5 => want.clone().prop_map(Kind::Put),
        2 => want.clone().prop_map(Kind::Delete),
        1 => want.prop_map(Kind::Check),
    ];
    let op = (0..3_u8, 0..4_u8, any::<u8>(), kind);
    prop_oneof![
        8 => proptest::collection::vec(op, 1..4).prop_map(Step::Commit),
        1 => (0..20_u8).prop_map(Step::Compact),
        4 => (0..4_u8, 0..12_u8, 0..5_u8, proptest::option::of(0..12_u8))
            .prop_map(|(namespace, back, limit, after)| Step::List { namespace, back, limit, after }),
        3 => (0..4_u8, 0..12_u8).prop_map(|(namespace, back)| Step::Watch { namespace, back }),
    ]
}

const NAMESPACES: [&str; 3] = ["a", "a-b", "b"];

fn resource() -> Resource {
    Resource::new("apps", "things")
}

fn path(namespace: u8, name: u8) -> String {
    format!("{}/n{name}", NAMESPACES[namespace as usize])
}

/// A namespace, or all of them.
fn scope(namespace: u8) -> Scope {
    Scope::namespace(&resource(), NAMESPACES.get(namespace as usize).copied().unwrap_or_default())
}

fn object(content: u8) -> Object {
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"content":{content}}}"#);
    let body = Body::json(&Bytes::from(json)).unwrap();
    Object { uid: "uid".into(), labels: Pairs::default(), fields: Pairs::default(), body }
}

fn bytes(content: u8, revision: u64) -> String {
    format!(r#"{{"metadata":{{"resourceVersion":"{revision}"}},"content":{content}}}"#)
}

impl Model {
    fn new() -> Self {
        Self {
            states: BTreeMap::from([(FIRST_REVISION, BTreeMap::new())]),
            events: Vec::new(),
            revision: FIRST_REVISION,
        }
    }

    fn now(&self) -> &BTreeMap<String, (u64, u64, u8)> {
        &self.states[&self.revision]
    }

    fn expect(&self, path: &str, want: Want) -> Expect {
        let current = self.now().get(path).map_or(0, |(_, revision, _)| *revision);
        match want {
            Want::Any => Expect::Any,
            Want::Absent => Expect::Absent,
            Want::Right => Expect::Revision(current),
            Want::Wrong => Expect::Revision(current + 1),
        }
    }

    /// The operations, and whether they should succeed.
    fn plan(&self, ops: &[(u8, u8, u8, Kind)]) -> (Vec<Op>, bool) {
        let mut good = true;
        let mut seen = Vec::new();
        let ops = ops.iter().map(|&(namespace, name, content, kind)| {
            let path = path(namespace, name);
            let key = Key::from_path(resource(), path.as_str().into());
            good &= !seen.contains(&path);
            let exists = self.now().contains_key(&path);
            let (Kind::Put(want) | Kind::Delete(want) | Kind::Check(want)) = kind;
            let delete = matches!(kind, Kind::Delete(_));
            good &= match want {
                Want::Any => exists || !delete,
                Want::Absent => !exists && !delete,
                Want::Right => exists,
                Want::Wrong => false,
            };
            let expect = self.expect(&path, want);
            seen.push(path);
            match kind {
                Kind::Put(_) => Op::Put { key, expect, object: object(content) },
                Kind::Delete(_) => Op::Delete { key, expect },
                Kind::Check(_) => Op::Check { key, expect },
            }
        });
        (ops.collect(), good)
    }

    fn commit(&mut self, ops: &[(u8, u8, u8, Kind)]) {
        for &(namespace, name, content, kind) in ops {
            let path = path(namespace, name);
            let mut state = self.now().clone();
            let happened = match kind {
                Kind::Check(_) => continue,
                Kind::Put(_) => {
                    self.revision += 1;
                    let created = state.get(&path).map_or(self.revision, |before| before.0);
                    match state.insert(path.clone(), (created, self.revision, content)) {
                        None => EventKind::Added,
                        Some(_) => EventKind::Modified,
                    }
                }
                Kind::Delete(_) => {
                    self.revision += 1;
                    state.remove(&path);
                    EventKind::Deleted
                }
            };
            self.states.insert(self.revision, state);
            self.events.push((self.revision, happened, path));
        }
    }

    fn list(&self, scope: &Scope, revision: u64, limit: usize, after: Option<&str>) -> (Vec<String>, usize) {
        let matching: Vec<_> = self.states[&revision]
            .iter()
            .filter(|(path, _)| scope.holds(path) && after.is_none_or(|after| path.as_str() > after))
            .map(|(path, (created, revision, content))| format!("{path} {created} {}", bytes(*content, *revision)))
            .collect();
        let taken = if limit == 0 { matching.len() } else { limit.min(matching.len()) };
        (matching[..taken].to_vec(), matching.len() - taken)
    }
}

fn show(entry: &Entry) -> String {
    format!("{} {} {}", entry.key.path(), entry.created, std::str::from_utf8(entry.bytes()).unwrap())
}

fn check_list(state: &Mvcc, model: &Model, namespace: u8, back: u8, limit: u8, after: Option<u8>) {
    let revision = model.revision.saturating_sub(back.into()).max(FIRST_REVISION);
    let after = after.map(|after| path(after / 4, after % 4));
    let page = Page { limit: (limit > 0).then_some(limit.into()), after: after.as_deref().map(Into::into) };
    let at = if back == 0 { ListAt::Latest } else { ListAt::Exact(revision) };
    match state.list(&scope(namespace), at, &page) {
        Ok(listed) => {
            assert_eq!(listed.revision, revision);
            let items: Vec<_> = listed.items.iter().map(|entry| show(entry)).collect();
            let expected = model.list(&scope(namespace), revision, limit.into(), after.as_deref());
            assert_eq!((items, listed.remaining), expected);
        }
        Err(StoreError::Compacted { wanted, oldest }) => {
            assert_eq!(wanted, revision);
            assert!(oldest > revision && oldest <= model.revision);
        }
        Err(other) => panic!("{other}"),
    }
}

fn check_watch(state: &Mvcc, model: &Model, namespace: u8, back: u8) {
    let from = model.revision.saturating_sub(back.into()).max(FIRST_REVISION);
    let scope = scope(namespace);
    match state.events(&scope, from, 2) {
        Ok((events, through)) => {
            let expected: Vec<_> =
                model.events.iter().filter(|(revision, _, path)| *revision > from && scope.holds(path)).collect();
            let told: Vec<_> =
                events.iter().map(|event| (event.revision, event.kind, event.entry.key.path().to_string())).collect();
            assert_eq!(told.iter().collect::<Vec<_>>(), expected[..expected.len().min(2)]);
            let next = expected.get(2).map_or(model.revision + 1, |event| event.0);
            assert!(through < next && through >= told.last().map_or(from, |event| event.0));
            for event in events {
                let path = event.entry.key.path().to_string();
                let before = model.states[&(event.revision - 1)].get(&path);
                assert_eq!(event.previous.as_ref().map(|entry| entry.revision), before.map(|before| before.1));
                let content = model.states[&event.revision].get(&path).or(before).unwrap().2;
                assert_eq!(event.entry.bytes(), &bytes(content, event.revision));
            }
        }
        Err(StoreError::Compacted { oldest, .. }) => assert!(oldest > from),
        Err(other) => panic!("{other}"),
    }
}

fn run(steps: &[Step], window: Window) {
    let mut state = Mvcc::new(window);
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Commit(ops) => {
                let (plan, good) = model.plan(ops);
                let outcome = state.apply(&Command::Commit(plan.into()));
                assert_eq!(outcome.is_ok(), good, "{outcome:?}");
                if good {
                    model.commit(ops);
                }
                assert_eq!(state.revision(), model.revision);
                assert_eq!(state.len(), model.now().len());
                let size: usize =
                    model.now().values().map(|&(_, revision, content)| bytes(content, revision).len()).sum();
                assert_eq!(state.size_bytes(), size);
            }
            Step::Compact(back) => {
                let revision = model.revision.saturating_sub((*back).into());
                let before = state.compacted();
                state.apply(&Command::Compact(revision)).unwrap();
                assert_eq!(state.compacted(), before.max(revision));
                if revision > FIRST_REVISION {
                    let listed = state.list(&scope(9), ListAt::Exact(revision - 1), &Page::default());
                    assert!(matches!(listed, Err(StoreError::Compacted { .. })));
                }
            }
            Step::List { namespace, back, limit, after } => {
                check_list(&state, &model, *namespace, *back, *limit, *after)
            }
            Step::Watch { namespace, back } => check_watch(&state, &model, *namespace, *back),
        }
    }
    let kept = state.entries().iter().map(|entry| (**entry).clone()).collect::<Vec<_>>();
    let restored = Mvcc::restore(state.origin(), kept, window);
    check_list(&restored, &model, 9, 0, 0, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_state_answers_as_a_list_of_whole_states_would(steps in proptest::collection::vec(step(), 1..60)) {
        run(&steps, Window::default());
    }

    #[test]
    fn a_small_window_forgets_but_never_lies(steps in proptest::collection::vec(step(), 1..60), events in 1..6_usize) {
        run(&steps, Window { events, ..Window::default() });
    }

    #[test]
    fn pages_at_one_revision_join_to_the_whole(
        before in proptest::collection::vec(step(), 1..30),
        after in proptest::collection::vec(step(), 1..10),
        limit in 1..5_usize,
    ) {
        let mut state = Mvcc::new(Window::default());
        let mut model = Model::new();
        let mut play = |steps: &[Step], state: &mut Mvcc| for step in steps {
            if let Step::Commit(ops) = step {
                let (plan, good) = model.plan(ops);
                if good {
                    model.commit(ops);
                }
                assert_eq!(state.apply(&Command::Commit(plan.into())).is_ok(), good);
            }
        };
        play(&before, &mut state);
        let whole = state.list(&scope(9), ListAt::Latest, &Page::default()).unwrap();
        let mut joined = Vec::new();
        let mut page = Page { limit: Some(limit), after: None };
        loop {
            let listed = state.list(&scope(9), ListAt::Exact(whole.revision), &page).unwrap();
            joined.extend(listed.items.iter().map(|entry| show(entry)));
            prop_assert_eq!(joined.len() + listed.remaining, whole.items.len());
            if listed.remaining == 0 {
                break;
            }
            page.after = listed.items.last().map(|entry| Arc::clone(entry.key.path()));
            play(&after, &mut state);
        }
        prop_assert_eq!(joined, whole.items.iter().map(|entry| show(entry)).collect::<Vec<_>>());
    }
}

#[test]
fn an_idle_watcher_survives_a_compaction_that_took_nothing_from_it() {
    let mut state = Mvcc::new(Window::default());
    let put = |resource: &str, name: &str| {
        let key = Key::new(&Resource::new("", resource), "", name);
        Command::Commit([Op::Put { key, expect: Expect::Any, object: object(1) }].into())
    };
    state.apply(&put("idle", "x")).unwrap();
    let position = state.revision();
    for _ in 0..10 {
        state.apply(&put("busy", "x")).unwrap();
    }
    state.apply(&Command::Compact(state.revision())).unwrap();
    state.apply(&put("idle", "y")).unwrap();
    let idle = Resource::new("", "idle");
    assert_eq!(state.events(&Scope::all(&idle), position, 9).unwrap().0.len(), 1);
    assert!(matches!(state.check_remembered(&idle, position), Err(StoreError::Compacted { .. })));
}
