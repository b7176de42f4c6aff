//! Two hundred connections doing anything at once. Every reply is checked, and what is left at the end.
//!
//! Half of the contents belong to one thread each, which knows what every reply about them must say. The others are
//! everybody's: of those it is checked afterwards that the committed replies make up one history, which ends in what
//! the ledger holds. A table of the test tells which transactions have committed, whatever their clients saw.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error};
use serde_json::{Value, json};
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::raw::RawSession;
use slotkeeper_client_tests::time::{iso, second};
use slotkeeper_client_tests::{
    Database, at_once, backend, call, create_queue, eventually, ledger, one, run, sqlstate, told,
};

const THREADS: usize = 200;
/// Transactions of each thread.
const ROUNDS: usize = 35;
const OWN_CONTENTS: usize = 10;
const SHARED_CONTENTS: usize = 120;
const QUEUES: [&str; 5] = ["hot", "hot", "wide", "free", "fine"];

type Seat = (i64, i64);

/// What was asked, and what came back.
struct Asked {
    content: String,
    queue: &'static str,
    what: &'static str,
    reply: Value,
    began: Instant,
    ended: Instant,
}

/// One transaction, as its client saw it.
struct Transaction {
    id: i64,
    asked: Vec<Asked>,
    began: Instant,
    ended: Instant,
}

struct Crowd {
    database: Database,
    now: i64,
    next_id: AtomicUsize,
    /// Backends that may be killed.
    victims: Vec<AtomicI32>,
    finished: AtomicBool,
    done: AtomicUsize,
    complaints: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, usize>>,
}

impl Crowd {
    fn complain(&self, what: String) {
        let mut complaints = self.complaints.lock().unwrap();
        if complaints.len() < 20 {
            complaints.push(what);
        }
    }

    fn count(&self, what: &str) {
        *self.counts.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }
}

/// One of the crowd.
struct Caller<'c> {
    crowd: &'c Crowd,
    number: usize,
    random: Random,
    client: Client,
    pid: i32,
    /// What its own contents hold, by committed transactions.
    own: BTreeMap<String, Seat>,
    history: Vec<Transaction>,
}

/// Why a transaction has not gone on.
enum Stop {
    /// Another error than a dead connection.
    Refused(String, String),
    Disconnected,
    /// A reply was wrong.
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match sqlstate(&error) {
            "57P01" | "" => Self::Disconnected,
            code => Self::Refused(code.to_owned(), told(&error)),
        }
    }
}

impl<'c> Caller<'c> {
    fn new(crowd: &'c Crowd, seed: u64, number: usize) -> Self {
        let mut caller = Self {
            crowd,
            number,
            random: Random::new(seed, number as u64),
            client: crowd.database.connect(),
            pid: 0,
            own: BTreeMap::new(),
            history: Vec::new(),
        };
        caller.prepare();
        caller
    }

    fn prepare(&mut self) {
        let isolation = if self.number.is_multiple_of(2) {
            "read committed"
        } else {
            "repeatable read"
        };
        run(
            &mut self.client,
            &format!("SET default_transaction_isolation = '{isolation}'; SET statement_timeout = '60s'"),
        );
        self.pid = backend(&mut self.client);
    }

    /// Every fourth may be killed at any moment.
    fn killable(&self) -> bool {
        self.number.is_multiple_of(4)
    }

    fn content(&mut self) -> (String, &'static str) {
        let (number, owned) = (self.number, self.random.percent(55));
        let k = self.random.below(if owned { OWN_CONTENTS } else { SHARED_CONTENTS });
        // A content's id names its queue.
        let queue = QUEUES[if owned {
            (number + k) % QUEUES.len()
        } else {
            k % QUEUES.len()
        }];
        (
            if owned {
                format!("{queue}-own-{number}-{k}")
            } else {
                format!("{queue}-all-{k}")
            },
            queue,
        )
    }

    fn instant(&mut self, queue: &str) -> i64 {
        let within = if queue == "free" { 60 } else { 300 };
        let past = if self.random.percent(10) { -60 } else { 0 };
        let minute = self.random.between(past, within);
        let seconds = if self.random.percent(30) {
            *self.random.pick(&[15, 30, 45, 7])
        } else {
            0
        };
        self.crowd.now + minute * 60 + seconds
    }

    fn go(&mut self) {
        for _ in 0..ROUNDS {
            match self.random.below(100) {
                0..2 => self.break_off(),
                2..40 if !self.killable() => self.single(),
                _ => self.transaction(),
            }
            self.crowd.done.fetch_add(1, Ordering::Relaxed);
        }
        self.crowd.victims[self.number].store(0, Ordering::Release);
    }

    /// One call that is its own transaction.
    fn single(&mut self) {
        let began = Instant::now();
        let mut view = self.own.clone();
        let mut asked = Vec::new();
        let outcome = self.ask(&mut view, &mut asked);
        let ended = Instant::now();
        match outcome {
            Ok(()) => {
                self.own = view;
                // It has committed: there was no error.
                self.history.push(Transaction {
                    id: 0,
                    asked,
                    began,
                    ended,
                });
            }
            Err(stop) => self.complain(stop, "a single call", &asked),
        }
    }

    fn complain(&mut self, stop: Stop, during: &str, asked: &[Asked]) {
        let mut text = format!("caller {} in {during}: ", self.number);
        match stop {
            Stop::Refused(_, told) => text += &told,
            Stop::Disconnected => text += "the connection is lost, though nobody has cut it",
            Stop::Wrong(what) => text += &what,
        }
        for asked in asked {
            let _ = write!(text, "\n    {} {}: {}", asked.what, asked.content, asked.reply);
        }
        self.crowd.complain(text);
    }

    /// Several calls, savepoints, and any end.
    fn transaction(&mut self) {
        let id = self.crowd.next_id.fetch_add(1, Ordering::Relaxed) as i64 + 1;
        if self.killable() {
            self.crowd.victims[self.number].store(self.pid, Ordering::Release);
        }
        let calls = if self.random.percent(50) {
            1
        } else {
            2 + self.random.below(4)
        };
        let early = self.random.percent(50);
        let end = self.random.below(100);
        let began = Instant::now();
        let mut view = self.own.clone();
        let mut asked = Vec::new();
        let outcome = self.calls(id, calls, early, end, &mut view, &mut asked);
        let ended = Instant::now();
        let asks = asked.len();
        match outcome {
            Ok(true) => {
                self.own = view;
                self.history.push(Transaction {
                    id,
                    asked,
                    began,
                    ended,
                });
            }
            Ok(false) => self.crowd.count("rolled back"),
            Err(Stop::Refused(code, _)) if code == "40P01" && calls > 1 => {
                self.crowd.count("40P01");
                self.undo();
            }
            Err(Stop::Disconnected) if self.killable() => {
                self.crowd.count("killed");
                self.reconnect();
                // Whether its commit came through only the server knows.
                if one::<bool>(
                    &mut self.client,
                    &format!("SELECT EXISTS (SELECT FROM committed WHERE id = {id})"),
                ) {
                    self.own = view;
                    self.history.push(Transaction {
                        id,
                        asked,
                        began,
                        ended,
                    });
                }
            }
            Err(stop) => {
                let what = format!("transaction {id}, call {} of {calls}", asks + 1);
                self.complain(stop, &what, &asked);
                self.undo();
            }
        }
    }

    fn undo(&mut self) {
        if self.client.batch_execute("ROLLBACK").is_err() {
            self.reconnect();
        }
    }

    fn reconnect(&mut self) {
        self.crowd.victims[self.number].store(0, Ordering::Release);
        self.client = self.crowd.database.connect();
        let old = self.pid;
        self.prepare();
        let client = &mut self.client;
        eventually("the old backend has gone", || {
            one::<bool>(
                client,
                &format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {old})"),
            )
        });
    }

    fn calls(
        &mut self,
        id: i64,
        calls: usize,
        early: bool,
        end: usize,
        view: &mut BTreeMap<String, Seat>,
        asked: &mut Vec<Asked>,
    ) -> Result<bool, Stop> {
        let mark = format!("INSERT INTO committed VALUES ({id})");
        self.client.batch_execute("BEGIN")?;
        if early {
            // The snapshot of a REPEATABLE READ transaction is older than its calls.
            self.client.batch_execute(&mark)?;
            thread::sleep(Duration::from_millis(self.random.below(4) as u64));
        }
        for _ in 0..calls {
            if self.random.percent(15) {
                let (saved, count) = (view.clone(), asked.len());
                self.client.batch_execute("SAVEPOINT s")?;
                self.ask(view, asked)?;
                if self.random.percent(50) {
                    self.client.batch_execute("ROLLBACK TO s")?;
                    *view = saved;
                    asked.truncate(count);
                } else {
                    self.client.batch_execute("RELEASE s")?;
                }
            } else {
                self.ask(view, asked)?;
            }
        }
        if self.random.percent(30) {
            thread::sleep(Duration::from_millis(self.random.below(20) as u64));
        }
        if end < 20 {
            self.client.batch_execute("ROLLBACK")?;
            return Ok(false);
        }
        if end < 23 {
            // The client goes away without a word about the transaction.
            self.reconnect();
            return Ok(false);
        }
        if !early {
            self.client.batch_execute(&mark)?;
        }
        self.client.batch_execute("COMMIT")?;
        Ok(true)
    }

    /// A connection that breaks while a statement runs. It never commits.
    fn break_off(&mut self) {
        let (content, queue) = self.content();
        let mut raw = RawSession::open(&self.crowd.database);
        if self.random.percent(50) {
            raw.send(&format!("BEGIN; SELECT slotkeeper.unschedule_content('{content}')"));
        } else {
            raw.send(&format!(
                "BEGIN; SELECT slotkeeper.assign_next_available_slot('p', '{queue}', '{content}')"
            ));
        }
        if self.random.percent(50) {
            thread::sleep(Duration::from_millis(self.random.below(5) as u64));
        }
        self.crowd.count("broken off");
    }

    /// One call of any kind, and whether its reply is true.
    fn ask(&mut self, view: &mut BTreeMap<String, Seat>, log: &mut Vec<Asked>) -> Result<(), Stop> {
        let kind = self.random.below(100);
        if kind < 12 {
            return self.ask_batch(view, log);
        }
        let (content, queue) = self.content();
        let at = match view.get(&content) {
            Some(&(_, at)) if self.random.percent(5) => at,
            _ => self.instant(queue),
        };
        let wish = iso(at);
        let on_conflict = *self.random.pick(&["next_slot", "next_slot", "next_free", "reject"]);
        let dry = self.random.percent(8);
        let named = self.random.percent(50);
        let (profile, platform) = if named { (Some("p"), Some(queue)) } else { (None, None) };
        let began = Instant::now();
        let (what, reply) = match kind {
            12..42 => {
                let not_before = self.random.percent(20).then_some(&wish);
                let sql = "SELECT slotkeeper.assign_next_available_slot('p', $1, $2, NULL, $3::text::timestamptz, $4)";
                (
                    "assign",
                    call(&mut self.client, sql, &[&queue, &content, &not_before, &dry])?,
                )
            }
            42..60 => {
                let sql = "SELECT slotkeeper.schedule_content('p', $1, $2, $3::text::timestamptz, NULL, $4, $5)";
                (
                    "schedule",
                    call(&mut self.client, sql, &[&queue, &content, &wish, &on_conflict, &dry])?,
                )
            }
            60..75 => {
                let sql = "SELECT slotkeeper.reschedule_content($1, $2::text::timestamptz, $3, $4, $5, $6)";
                (
                    "reschedule",
                    call(
                        &mut self.client,
                        sql,
                        &[&content, &wish, &on_conflict, &dry, &profile, &platform],
                    )?,
                )
            }
            _ => {
                let sql = "SELECT slotkeeper.unschedule_content($1, $2, $3)";
                (
                    "unschedule",
                    call(&mut self.client, sql, &[&content, &profile, &platform])?,
                )
            }
        };
        let ended = Instant::now();
        let dry = dry && what != "unschedule";
        let asked = Asked {
            content,
            queue,
            what,
            reply,
            began,
            ended,
        };
        let wanted = Wanted {
            at: (what != "assign" && what != "unschedule").then_some(at),
            on_conflict,
            dry,
        };
        let verdict = self.judge(&asked, &wanted, view);
        if !dry {
            log.push(asked);
        }
        verdict
    }

    fn ask_batch(&mut self, view: &mut BTreeMap<String, Seat>, log: &mut Vec<Asked>) -> Result<(), Stop> {
        let contents: Vec<(String, &'static str)> = (0..2 + self.random.below(9)).map(|_| self.content()).collect();
        let items: Vec<Value> = contents
            .iter()
            .map(|(content, queue)| json!({"profile_id": "p", "platform": queue, "content_id": content}))
            .collect();
        let mode = *self.random.pick(&["all_or_nothing", "best_effort"]);
        let began = Instant::now();
        let reply = call(
            &mut self.client,
            "SELECT slotkeeper.assign_slots($1, $2)",
            &[&Value::Array(items), &mode],
        )?;
        let ended = Instant::now();
        let results = reply["results"].as_array().map_or(&[][..], Vec::as_slice);
        if reply["outcome"] != "assigned" || results.len() != contents.len() {
            return Err(Stop::Wrong(format!("batch of {contents:?}: {reply}")));
        }
        for ((content, queue), result) in contents.into_iter().zip(results) {
            let asked = Asked {
                content,
                queue,
                what: "batch",
                reply: result.clone(),
                began,
                ended,
            };
            let verdict = self.judge(
                &asked,
                &Wanted {
                    at: None,
                    on_conflict: "",
                    dry: false,
                },
                view,
            );
            log.push(asked);
            verdict?;
        }
        Ok(())
    }

    /// Whether a reply can be true, and, about the caller's own contents, whether it is.
    fn judge(&self, asked: &Asked, wanted: &Wanted, view: &mut BTreeMap<String, Seat>) -> Result<(), Stop> {
        let reply = &asked.reply;
        let outcome = reply["outcome"].as_str().unwrap_or_default();
        self.crowd.count(&format!(
            "{} {outcome}{}",
            asked.what,
            if wanted.dry { " (dry)" } else { "" }
        ));
        let wrong = |why: &str| {
            Err(Stop::Wrong(format!(
                "{why}: {} of {} ({wanted:?}), held before: {:?}, reply: {reply}",
                asked.what,
                asked.content,
                view.get(&asked.content)
            )))
        };
        if reply["content_id"] != asked.content.as_str() {
            return wrong("another content");
        }
        let seat = || Some((reply["booking_id"].as_i64()?, second(reply["scheduled_at"].as_str()?)));
        let allowed: &[&str] = match asked.what {
            "assign" | "batch" => &["assigned", "already_assigned"],
            "schedule" => &["scheduled", "moved", "conflict", "already_assigned"],
            "reschedule" => &["scheduled", "moved", "conflict", "unchanged", "not_found"],
            _ => &["unscheduled", "not_found"],
        };
        if !allowed.contains(&outcome) || (wanted.on_conflict == "reject" && outcome == "moved") {
            return wrong("this outcome cannot be");
        }
        let placed = ["assigned", "scheduled", "moved"].contains(&outcome);
        if placed {
            let got = reply["scheduled_at"].as_str().map(second).unwrap_or(i64::MIN);
            let wish = wanted.at.map(|at| at.max(self.crowd.now));
            if got < self.crowd.now
                || (outcome == "scheduled" && Some(got) != wish)
                || (outcome == "moved" && wish.is_some_and(|wish| got <= wish))
            {
                return wrong("not where it may be");
            }
        }
        if !asked.content.contains("-own-") {
            return Ok(());
        }
        let held = view.get(&asked.content).copied();
        let right = match (outcome, held) {
            ("already_assigned" | "unchanged" | "unscheduled", Some(held)) => seat() == Some(held),
            ("conflict", held) => {
                asked.what == "reschedule" && held.is_some() || asked.what == "schedule" && held.is_none()
            }
            ("not_found", None) => true,
            _ if placed && wanted.dry => (asked.what == "reschedule") == held.is_some(),
            _ if placed => match (asked.what, held, seat()) {
                ("reschedule", Some((id, _)), Some((new_id, _))) => id == new_id,
                ("reschedule", None, _) | (_, Some(_), _) | (_, _, None) => false,
                (_, None, Some(_)) => true,
            },
            _ => false,
        };
        if !right {
            return wrong("not true");
        }
        if placed && !wanted.dry {
            view.insert(asked.content.clone(), seat().unwrap_or_default());
        } else if outcome == "unscheduled" {
            view.remove(&asked.content);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Wanted {
    at: Option<i64>,
    on_conflict: &'static str,
    dry: bool,
}

/// The killer, who also tells how it goes.
fn kill_at_random(crowd: &Crowd, mut random: Random) {
    let mut client = crowd.database.connect();
    let (started, mut told_at) = (Instant::now(), 0);
    while !crowd.finished.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(15));
        let pid = random.pick(&crowd.victims).load(Ordering::Acquire);
        if pid != 0 && random.percent(70) {
            run(&mut client, &format!("SELECT pg_terminate_backend({pid})"));
        }
        if started.elapsed().as_secs() / 2 > told_at {
            told_at = started.elapsed().as_secs() / 2;
            let done = crowd.done.load(Ordering::Relaxed);
            println!(
                "{:>3} s: {done} of {} transactions",
                started.elapsed().as_secs(),
                THREADS * ROUNDS
            );
        }
    }
}

/// Protections: the two unique indexes (safety holds without any lock), the latest-snapshot reads (REPEATABLE READ is
/// as right as READ COMMITTED), the lock order (no single call and no batch meets 40P01). Without the locks the ledger stays
/// right; without booking_seat or booking_content too it does not.
///
/// Tried, when the insert was ON CONFLICT DO NOTHING (it raises 23505 now): with every brief lock taken out nothing is
/// booked twice; some REPEATABLE READ callers then get 40001, which the locks spare them. With the two indexes made non-unique as well, contents are booked twice within seconds.
#[test]
fn whatever_two_hundred_connections_do_every_reply_is_true() {
    let seed = seed();
    let database = Database::new("crowd");
    let mut admin = database.connect();
    run(&mut admin, "CREATE TABLE committed (id bigint PRIMARY KEY)");
    let every = |minutes: &str| json!({"every": minutes, "from": "00:00", "to": "23:55"});
    create_queue(&mut admin, "hot", "Asia/Jakarta", &every("5 minutes"), &json!({}));
    let three_seats: Vec<Value> = ["00:00", "06:00", "09:00", "18:00"]
        .iter()
        .map(|time| json!({"time": time, "capacity": 3}))
        .collect();
    create_queue(
        &mut admin,
        "wide",
        "America/New_York",
        &json!({"daily": three_seats}),
        &json!({}),
    );
    create_queue(&mut admin, "free", "UTC", &json!({}), &json!({}));
    create_queue(
        &mut admin,
        "fine",
        "Europe/Berlin",
        &every("10 minutes"),
        &json!({"granule": "15 seconds"}),
    );
    let crowd = Crowd {
        database: database.clone(),
        now: second(slotkeeper_client_tests::NOW),
        next_id: AtomicUsize::new(0),
        victims: (0..THREADS).map(|_| AtomicI32::new(0)).collect(),
        finished: AtomicBool::new(false),
        done: AtomicUsize::new(0),
        complaints: Mutex::new(Vec::new()),
        counts: Mutex::new(BTreeMap::new()),
    };
    let callers: Vec<Caller<'_>> = (0..THREADS).map(|number| Caller::new(&crowd, seed, number)).collect();
    let callers = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_at_random(&crowd, Random::new(seed, 1_000_000)));
        let callers = at_once(callers, |_, mut caller| {
            caller.go();
            (caller.own, caller.history)
        });
        crowd.finished.store(true, Ordering::Release);
        killer.join().unwrap();
        callers
    });
    for (what, count) in crowd.counts.lock().unwrap().iter() {
        println!("{count:>7} {what}");
    }
    let complaints = crowd.complaints.lock().unwrap();
    assert!(
        complaints.is_empty(),
        "SLOTKEEPER_SEED={seed}\n{}",
        complaints.join("\n")
    );

    ledger::no_locks_left(&mut admin);
    ledger::check(&mut admin);
    check_own(&mut admin, &callers);
    let histories: Vec<Transaction> = callers.into_iter().flat_map(|(_, history)| history).collect();
    check_marks(&mut admin, &histories);
    check_history(&mut admin, &histories);
}

fn live(admin: &mut Client) -> BTreeMap<i64, (String, String, i64)> {
    let sql = "SELECT booking_id, content_id, platform, extract(epoch FROM scheduled_at)::bigint
               FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE released_at IS NULL";
    admin
        .query(sql, &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3))))
        .collect()
}

/// What belongs to one caller is where its last committed reply said.
fn check_own(admin: &mut Client, callers: &[(BTreeMap<String, Seat>, Vec<Transaction>)]) {
    let expected: BTreeMap<&String, Seat> = callers
        .iter()
        .flat_map(|(own, _)| own.iter().map(|(id, seat)| (id, *seat)))
        .collect();
    let found = live(admin);
    let found: BTreeMap<&String, Seat> = found
        .iter()
        .filter(|(_, (content, ..))| content.contains("-own-"))
        .map(|(id, (content, _, at))| (content, (*id, *at)))
        .collect();
    let lost: Vec<_> = expected
        .iter()
        .filter(|(content, seat)| found.get(*content) != Some(seat))
        .collect();
    assert!(
        lost.is_empty(),
        "replies of committed transactions that are not in the ledger: {lost:?}"
    );
    let extra: Vec<_> = found
        .iter()
        .filter(|(content, _)| !expected.contains_key(*content))
        .collect();
    assert!(extra.is_empty(), "bookings that no committed reply told of: {extra:?}");
    println!("{} bookings of contents that belong to one caller", expected.len());
}

/// A client that saw its commit succeed saw the truth.
fn check_marks(admin: &mut Client, histories: &[Transaction]) {
    let marks: BTreeSet<i64> = admin
        .query("SELECT id FROM committed", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let seen: BTreeSet<i64> = histories
        .iter()
        .map(|transaction| transaction.id)
        .filter(|id| *id != 0)
        .collect();
    assert_eq!(marks, seen, "transactions whose end was not what their client saw");
}

/// The life of one booking, as the committed replies tell it.
#[derive(Default)]
struct Life<'a> {
    births: Vec<(&'a Transaction, &'a Asked)>,
    places: BTreeSet<i64>,
    ends: Vec<(&'a Transaction, &'a Asked)>,
    seen: Vec<(&'a Transaction, &'a Asked)>,
}

/// The committed replies about everybody's contents make up one history that ends in the ledger.
fn check_history(admin: &mut Client, histories: &[Transaction]) {
    let mut lives: BTreeMap<i64, Life<'_>> = BTreeMap::new();
    for transaction in histories {
        for asked in &transaction.asked {
            let Some(id) = asked.reply["booking_id"].as_i64() else {
                continue;
            };
            let life = lives.entry(id).or_default();
            let outcome = asked.reply["outcome"].as_str().unwrap_or_default();
            match outcome {
                "assigned" | "scheduled" | "moved" => {
                    life.places
                        .insert(second(asked.reply["scheduled_at"].as_str().unwrap()));
                    if asked.what != "reschedule" {
                        life.births.push((transaction, asked));
                    } else {
                        life.seen.push((transaction, asked));
                    }
                }
                "unscheduled" => life.ends.push((transaction, asked)),
                _ => life.seen.push((transaction, asked)),
            }
        }
    }
    let live = live(admin);
    let mut alive = 0;
    for (id, life) in &lives {
        let [(birth, born)] = life.births[..] else {
            panic!("booking {id} was made {} times", life.births.len());
        };
        assert!(
            life.ends.len() <= 1,
            "booking {id} of {} was given back {} times",
            born.content,
            life.ends.len()
        );
        for (transaction, asked) in life.seen.iter().chain(&life.ends) {
            let say = || format!("{} {} at {:?}", asked.what, asked.reply, asked.ended);
            assert_eq!(asked.content, born.content, "booking {id}: {}", say());
            let at = second(asked.reply["scheduled_at"].as_str().unwrap());
            assert!(life.places.contains(&at), "booking {id} was never there: {}", say());
            // Its birth may not have committed after the reply, its end not before the question.
            assert!(
                birth.began <= asked.ended,
                "booking {id} was seen before it was made: {}",
                say()
            );
            for (end, _) in &life.ends {
                let before = end.ended < asked.began && !std::ptr::eq(*end, *transaction);
                assert!(!before, "booking {id} was seen after it had been given back: {}", say());
            }
        }
        match (live.get(id), life.ends.is_empty()) {
            (Some((content, queue, at)), true) => {
                assert_eq!((content, queue.as_str()), (&born.content, born.queue), "booking {id}");
                assert!(
                    life.places.contains(at),
                    "booking {id} of {content} is where no committed reply has put it"
                );
                alive += 1;
            }
            (None, false) => {}
            (None, true) => panic!("lost: booking {id} of {}, born {}", born.content, born.reply),
            (Some(_), false) => panic!("booking {id} of {} is live though it was given back", born.content),
        }
    }
    assert_eq!(
        alive,
        live.len(),
        "bookings in the ledger that no committed reply told of"
    );
    println!("{} bookings in all, {alive} of them live at the end", lives.len());
}
