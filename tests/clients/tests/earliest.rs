//! The seat that is given is the earliest one that is free, whatever has been booked, given back, rolled back or
//! altered before: every reply is compared with a model that looks at each slot in turn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::{BTreeMap, BTreeSet};

use postgres::Client;
use serde_json::{Value, json};
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::time::{iso, second};
use slotkeeper_client_tests::{Database, create_queue, ledger, one, reply, run};

const GRANULE: i64 = 60;
const DAY: i64 = 86_400;

/// A booking: its id, granule, seat and instant.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Booking {
    id: i64,
    granule: i64,
    seat: i16,
    at: i64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    /// Each call commits.
    Main,
    /// Keeps its transactions open.
    Holder,
}

/// What the holder has done in its open transaction.
#[derive(Clone, Default)]
struct Open {
    /// Its contents, as it sees them.
    contents: BTreeMap<String, Option<Booking>>,
    /// Seats it has put anything in, which others step over until it ends.
    touched: BTreeSet<(i64, i16)>,
}

struct Model {
    now: i64,
    slots: BTreeMap<i64, i64>,
    committed: BTreeMap<String, Booking>,
    /// Seats of committed bookings by granule.
    seats: BTreeMap<i64, BTreeSet<i16>>,
    open: Option<Open>,
    saved: Option<Open>,
}

impl Model {
    fn capacity(&self, granule: i64) -> Option<i64> {
        self.slots.get(&(granule * GRANULE)).copied()
    }

    fn find(&self, content: &str) -> Option<Booking> {
        let open = self.open.as_ref().and_then(|open| open.contents.get(content));
        open.copied().unwrap_or_else(|| self.committed.get(content).copied())
    }

    /// How many seats more (or less) than the committed ones are held in a granule, as this one sees it.
    fn beside_committed(&self, who: Who, own: Option<Booking>) -> BTreeMap<i64, i64> {
        let mut beside: BTreeMap<i64, i64> = BTreeMap::new();
        let committed =
            |(granule, seat): &(i64, i16)| self.seats.get(granule).is_some_and(|seats| seats.contains(seat));
        match (&self.open, who) {
            (Some(open), Who::Main) => {
                for place in open.touched.iter().filter(|place| !committed(place)) {
                    *beside.entry(place.0).or_default() += 1;
                }
            }
            (Some(open), Who::Holder) => {
                for (content, booking) in &open.contents {
                    if let Some(old) = self.committed.get(content) {
                        *beside.entry(old.granule).or_default() -= 1;
                    }
                    if let Some(new) = booking {
                        *beside.entry(new.granule).or_default() += 1;
                    }
                }
            }
            (None, _) => {}
        }
        if let Some(own) = own {
            *beside.entry(own.granule).or_default() -= 1;
        }
        beside
    }

    fn has_free(&self, beside: &BTreeMap<i64, i64>, granule: i64, capacity: i64) -> bool {
        let committed = self.seats.get(&granule).map_or(0, BTreeSet::len) as i64;
        committed + beside.get(&granule).copied().unwrap_or(0) < capacity
    }

    /// The earliest slot with a free seat at or after `from`.
    fn next_slot(&self, who: Who, from: i64, own: Option<Booking>) -> i64 {
        let beside = self.beside_committed(who, own);
        let free = self
            .slots
            .range(from..)
            .find(|(at, capacity)| self.has_free(&beside, *at / GRANULE, **capacity));
        *free.expect("the model knows too few slots").0
    }

    /// The earliest granule with a free seat at or after `from`.
    fn next_granule(&self, who: Who, from: i64, own: Option<Booking>) -> i64 {
        let beside = self.beside_committed(who, own);
        let first = (from + GRANULE - 1).div_euclid(GRANULE);
        let free = (first..).find(|&granule| self.has_free(&beside, granule, self.capacity(granule).unwrap_or(1)));
        free.unwrap_or(first) * GRANULE
    }

    fn place(&mut self, who: Who, content: &str, booking: Booking) {
        match (&mut self.open, who) {
            (Some(open), Who::Holder) => {
                open.touched.insert((booking.granule, booking.seat));
                open.contents.insert(content.to_owned(), Some(booking));
            }
            _ => self.commit(content.to_owned(), Some(booking)),
        }
    }

    fn release(&mut self, who: Who, content: &str) {
        match (&mut self.open, who) {
            (Some(open), Who::Holder) => {
                open.contents.insert(content.to_owned(), None);
            }
            _ => self.commit(content.to_owned(), None),
        }
    }

    fn commit(&mut self, content: String, booking: Option<Booking>) {
        if let Some(old) = self.committed.remove(&content) {
            self.seats.entry(old.granule).or_default().remove(&old.seat);
        }
        if let Some(new) = booking {
            assert!(
                self.seats.entry(new.granule).or_default().insert(new.seat),
                "a seat twice: {content} {new:?}"
            );
            self.committed.insert(content, new);
        }
    }

    fn end(&mut self, commit: bool) {
        let open = self.open.take().unwrap_or_default();
        self.saved = None;
        if commit {
            // First everything out, then everything in: contents may have changed places.
            for content in open.contents.keys() {
                self.commit(content.clone(), None);
            }
            for (content, booking) in open.contents {
                self.commit(content, booking);
            }
        }
    }
}

struct Test {
    main: Client,
    holder: Client,
    model: Model,
    random: Random,
    step: usize,
    next_content: usize,
    /// Whether every step is told: `SLOTKEEPER_TRACE`.
    trace: bool,
}

const TIMETABLES: [&str; 5] = [
    r#"{"every": "1 minute", "from": "00:00", "to": "23:59"}"#,
    r#"{"every": "1 minute", "from": "08:00", "to": "21:59", "days": "mon-sat"}"#,
    r#"{"every": "2 minutes", "from": "00:00", "to": "23:58"}"#,
    r#"{"every": "3 minutes", "from": "06:00", "to": "23:57", "capacity": 3}"#,
    r#"{"every": "1 minute", "from": "00:00", "to": "23:59", "capacity": 2}"#,
];

impl Test {
    fn tell(&self, what: &str) {
        if self.trace {
            println!("step {}: {what}", self.step);
        }
    }

    fn client(&mut self, who: Who) -> &mut Client {
        match who {
            Who::Main => &mut self.main,
            Who::Holder => &mut self.holder,
        }
    }

    fn load_slots(&mut self) {
        // From the start of the granule that has begun: an instant in it takes a seat of its slot.
        let from = iso(self.model.now - self.model.now.rem_euclid(GRANULE));
        let sql = format!(
            "SELECT extract(epoch FROM slot_at)::bigint, capacity::bigint FROM slotkeeper.preview_slots('p', 'q', '{from}', 10000)"
        );
        let rows = self.main.query(&sql, &[]).unwrap();
        self.model.slots = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    }

    fn new_content(&mut self, who: Who) -> String {
        self.next_content += 1;
        format!("{who:?}-{}", self.next_content)
    }

    fn old_content(&mut self, who: Who) -> Option<String> {
        let prefix = format!("{who:?}-");
        let open = self.model.open.iter().flat_map(|open| open.contents.keys());
        let known: Vec<&String> = self
            .model
            .committed
            .keys()
            .chain(open)
            .filter(|content| content.starts_with(&prefix))
            .collect();
        (!known.is_empty()).then(|| (*self.random.pick(&known)).clone())
    }

    /// The reply's booking, checked against the ledger that the caller sees.
    fn booked(&mut self, who: Who, reply: &Value) -> Booking {
        let id = reply["booking_id"]
            .as_i64()
            .unwrap_or_else(|| panic!("step {}: no booking: {reply}", self.step));
        let sql = format!(
            "SELECT granule, seat, extract(epoch FROM scheduled_at)::bigint, content_id FROM slotkeeper.booking WHERE booking_id = {id} AND released_at IS NULL"
        );
        let row = self.client(who).query_one(&sql, &[]).unwrap();
        let booking = Booking {
            id,
            granule: row.get(0),
            seat: row.get(1),
            at: row.get(2),
        };
        assert_eq!(
            Some(iso(booking.at).as_str()),
            reply["scheduled_at"].as_str(),
            "step {}: {reply}",
            self.step
        );
        assert_eq!(
            Some(row.get::<_, &str>(3)),
            reply["content_id"].as_str(),
            "step {}: {reply}",
            self.step
        );
        booking
    }

    fn expect(&self, what: &str, reply: &Value, outcome: &str, at: i64) {
        self.tell(&format!("{what}: {reply}"));
        let got = (reply["outcome"].as_str(), reply["scheduled_at"].as_str());
        assert_eq!(
            got,
            (Some(outcome), Some(iso(at).as_str())),
            "step {}: {what}: {reply}",
            self.step
        );
    }

    fn instant(&mut self) -> i64 {
        let ahead = if self.random.percent(80) { 2 * DAY } else { 4 * DAY };
        let at = self.model.now - 600 + self.random.between(0, ahead);
        if self.random.percent(70) {
            at - at.rem_euclid(GRANULE)
        } else {
            at
        }
    }

    fn assign(&mut self, who: Who) {
        let content = self.new_content(who);
        let dry = self.random.percent(5);
        let not_before = self.random.percent(25).then(|| self.instant());
        let from = not_before.map_or(self.model.now, |at| at.max(self.model.now));
        let expected = self.model.next_slot(who, from, None);
        let not_before = not_before.map(iso);
        let sql = "SELECT slotkeeper.assign_next_available_slot('p', 'q', $1, NULL, $2::text::timestamptz, $3)";
        let reply = reply(self.client(who), sql, &[&content, &not_before, &dry]);
        self.expect(
            &format!("{who:?} assigns {content} from {from}, dry: {dry}"),
            &reply,
            "assigned",
            expected,
        );
        if !dry {
            let booking = self.booked(who, &reply);
            self.model.place(who, &content, booking);
        }
    }

    fn batch(&mut self, who: Who) {
        let most = if self.random.percent(20) { 100 } else { 8 };
        let count = 1 + self.random.below(most);
        let items: Vec<(String, Option<i64>)> = (0..count)
            .map(|_| (self.new_content(who), self.random.percent(20).then(|| self.instant())))
            .collect();
        let json: Vec<Value> = items
            .iter()
            .map(|(content, at)| json!({"profile_id": "p", "platform": "q", "content_id": content, "not_before": at.map(iso)}))
            .collect();
        let replies = reply(
            self.client(who),
            "SELECT slotkeeper.assign_slots($1)",
            &[&Value::Array(json)],
        );
        for (i, (content, at)) in items.iter().enumerate() {
            let expected = self
                .model
                .next_slot(who, at.map_or(self.model.now, |at| at.max(self.model.now)), None);
            let reply = &replies["results"][i];
            self.expect(
                &format!("{who:?}, item {i} of a batch of {count}"),
                reply,
                "assigned",
                expected,
            );
            let booking = self.booked(who, reply);
            self.model.place(who, content, booking);
        }
    }

    /// `schedule_content` of a new content, or `reschedule_content` of one that is booked.
    fn schedule(&mut self, who: Who, content: &str, own: Option<Booking>) {
        let (at, now) = (self.instant(), self.model.now);
        let on_conflict = *self.random.pick(&["next_slot", "next_free", "reject"]);
        let wish = iso(at);
        let reply = if own.is_some() {
            let sql = "SELECT slotkeeper.reschedule_content($1, $2::text::timestamptz, $3)";
            reply(self.client(who), sql, &[&content, &wish, &on_conflict])
        } else {
            let sql = "SELECT slotkeeper.schedule_content('p', 'q', $1, $2::text::timestamptz, NULL, $3)";
            reply(self.client(who), sql, &[&content, &wish, &on_conflict])
        };
        let what = format!("{who:?} (re)schedules {content} ({own:?}) to {wish}, {on_conflict}");
        if let Some(own) = own.filter(|own| own.at == at) {
            return self.expect(&what, &reply, "unchanged", own.at);
        }
        let (asked, at) = (at, at.max(now));
        let granule = at.div_euclid(GRANULE);
        let capacity = self.model.capacity(granule).unwrap_or(1);
        let free = self
            .model
            .has_free(&self.model.beside_committed(who, own), granule, capacity);
        if on_conflict == "reject" && (asked < now || !free) {
            let (reason, from) = if asked < now { ("past", at) } else { ("taken", at + 1) };
            let next = iso(self.model.next_granule(who, from, own));
            let got =
                [&reply["outcome"], &reply["reason"], &reply["next_free_at"]].map(|v| v.as_str().unwrap_or("none"));
            assert_eq!(got, ["conflict", reason, &next], "step {}: {what}: {reply}", self.step);
            return;
        }
        if free {
            self.expect(&what, &reply, "scheduled", at);
        } else if on_conflict == "next_slot" {
            self.expect(&what, &reply, "moved", self.model.next_slot(who, at + 1, own));
        } else {
            self.expect(&what, &reply, "moved", self.model.next_granule(who, at + 1, own));
        }
        let booking = self.booked(who, &reply);
        assert!(
            own.is_none_or(|own| own.id == booking.id),
            "step {}: {what}: another booking: {reply}",
            self.step
        );
        self.model.place(who, content, booking);
    }

    fn unschedule(&mut self, who: Who, content: &str) {
        let held = self.model.find(content);
        let reply = reply(
            self.client(who),
            "SELECT slotkeeper.unschedule_content($1)",
            &[&content],
        );
        match held {
            Some(booking) => {
                self.expect(
                    &format!("{who:?} unschedules {content}"),
                    &reply,
                    "unscheduled",
                    booking.at,
                );
                assert_eq!(
                    reply["booking_id"].as_i64(),
                    Some(booking.id),
                    "step {}: {reply}",
                    self.step
                );
                self.model.release(who, content);
            }
            None => assert_eq!(reply["outcome"], "not_found", "step {}: {content}: {reply}", self.step),
        }
    }

    fn again(&mut self, who: Who, content: &str) {
        let Some(held) = self.model.find(content) else { return };
        let reply = reply(
            self.client(who),
            "SELECT slotkeeper.assign_next_available_slot('p', 'q', $1)",
            &[&content],
        );
        self.expect(
            &format!("{who:?} assigns {content} again"),
            &reply,
            "already_assigned",
            held.at,
        );
    }

    /// One step of one connection.
    fn act(&mut self, who: Who) {
        match self.random.below(100) {
            0..38 => self.assign(who),
            38..46 => self.batch(who),
            46..60 => {
                let content = self.new_content(who);
                self.schedule(who, &content, None);
            }
            kind => {
                let Some(content) = self.old_content(who) else { return };
                match (kind, self.model.find(&content)) {
                    (60..74, Some(own)) => self.schedule(who, &content, Some(own)),
                    (74..95, _) => self.unschedule(who, &content),
                    _ => self.again(who, &content),
                }
            }
        }
    }

    fn hold(&mut self) {
        let kind = self.random.below(100);
        if self.model.open.is_none() {
            let begin = ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1"][self.random.below(2)];
            run(&mut self.holder, begin);
            self.model.open = Some(Open::default());
        }
        match kind {
            0..12 => {
                self.tell("COMMIT");
                run(&mut self.holder, "COMMIT");
                self.model.end(true);
            }
            12..24 => {
                self.tell("ROLLBACK");
                run(&mut self.holder, "ROLLBACK");
                self.model.end(false);
            }
            24..32 if self.model.saved.is_none() => {
                self.tell("SAVEPOINT");
                run(&mut self.holder, "SAVEPOINT s");
                self.model.saved = self.model.open.clone();
            }
            24..32 => {
                self.tell("ROLLBACK TO");
                run(&mut self.holder, "ROLLBACK TO s; RELEASE s");
                self.model.open = self.model.saved.take();
            }
            _ => self.act(Who::Holder),
        }
    }

    /// Moves the clock, or changes the timetable, while a transaction may be open.
    fn turn(&mut self) {
        if self.random.percent(50) {
            self.model.now += self.random.between(1, 1_200);
            let now = format!("SET slotkeeper.now = '{}'", iso(self.model.now));
            run(&mut self.main, &now);
            run(&mut self.holder, &now);
            if self.model.open.is_some() {
                // A rollback would set the holder's clock back.
                let commit = self.random.percent(50);
                run(&mut self.holder, if commit { "COMMIT" } else { "ROLLBACK" });
                self.model.end(commit);
                run(&mut self.holder, &now);
            }
        } else {
            let timetable: Value = serde_json::from_str(TIMETABLES[self.random.below(TIMETABLES.len())]).unwrap();
            let zone = *self.random.pick(&["UTC", "Asia/Jakarta", "America/New_York"]);
            let altered = reply(
                &mut self.main,
                "SELECT slotkeeper.alter_queue('p', 'q', $1, $2)",
                &[&zone, &timetable],
            );
            assert_eq!(altered["outcome"], "updated", "{altered}");
        }
        self.tell("the clock or the timetable changes");
        self.load_slots();
    }

    /// What preview_slots shows is what is committed.
    fn look(&mut self) {
        let from = iso(self.instant());
        let sql = "SELECT extract(epoch FROM slot_at)::bigint, capacity::bigint, taken::bigint
                   FROM slotkeeper.preview_slots('p', 'q', $1::text::timestamptz, 100)";
        for row in self.main.query(sql, &[&from]).unwrap() {
            let (at, taken): (i64, i64) = (row.get(0), row.get(2));
            let expected = self.model.seats.get(&at.div_euclid(GRANULE)).map_or(0, BTreeSet::len);
            assert_eq!(taken, expected as i64, "step {}: preview of {}", self.step, iso(at));
        }
    }
}

/// Protections: a hole is left by whoever gives a seat back and none is passed over; runs are made of committed seats
/// only; runs and holes belong to one version of the timetable.
#[test]
fn every_seat_given_is_the_earliest_free_one() {
    let seed = seed();
    let database = Database::new("earliest");
    let (mut main, mut holder) = (database.connect_impatient(), database.connect_impatient());
    for client in [&mut main, &mut holder] {
        run(client, "SET synchronous_commit = off");
    }
    create_queue(
        &mut main,
        "q",
        "UTC",
        &serde_json::from_str(TIMETABLES[0]).unwrap(),
        &json!({}),
    );
    let model = Model {
        now: second(slotkeeper_client_tests::NOW),
        slots: BTreeMap::new(),
        committed: BTreeMap::new(),
        seats: BTreeMap::new(),
        open: None,
        saved: None,
    };
    let mut test = Test {
        main,
        holder,
        model,
        random: Random::new(seed, 0),
        step: 0,
        next_content: 0,
        trace: std::env::var_os("SLOTKEEPER_TRACE").is_some(),
    };
    test.load_slots();
    let (mut most_runs, mut most_holes) = (0, 0);
    for step in 0..4_000 {
        test.step = step;
        match test.random.below(1_000) {
            0..4 => test.turn(),
            4..20 => test.look(),
            20..350 => test.hold(),
            _ => test.act(Who::Main),
        }
        if step % 100 == 0 {
            most_runs = most_runs.max(one::<i64>(&mut test.main, "SELECT count(*) FROM slotkeeper.full_run"));
            most_holes = most_holes.max(one::<i64>(&mut test.main, "SELECT count(*) FROM slotkeeper.hole"));
        }
    }
    run(&mut test.holder, "ROLLBACK");
    test.model.end(false);
    let committed: BTreeMap<String, Booking> = test
        .main
        .query("SELECT content_id, booking_id, granule, seat, extract(epoch FROM scheduled_at)::bigint FROM slotkeeper.booking WHERE released_at IS NULL", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), Booking { id: row.get(1), granule: row.get(2), seat: row.get(3), at: row.get(4) }))
        .collect();
    assert_eq!(committed, test.model.committed);
    println!(
        "{} live bookings, at most {most_runs} full runs, {most_holes} holes",
        committed.len()
    );
    assert!(
        most_runs > 0,
        "no full run was ever written: the test does not reach what it is for"
    );
    assert!(most_runs < 60, "{most_runs} full runs of one queue");
    ledger::check_altered(&mut test.main);
    ledger::no_locks_left(&mut test.main);
}

/// Protection: full runs are jumped over, so that the work of a search does not grow with the bookings ahead. Counted
/// in pages that the search touches, not in time.
#[test]
fn the_work_of_a_search_does_not_grow_with_the_bookings_ahead() {
    let database = Database::new("earliest_flat");
    let mut client = database.connect_impatient();
    create_queue(
        &mut client,
        "q",
        "UTC",
        &serde_json::from_str(TIMETABLES[0]).unwrap(),
        &json!({"horizon": "10 years"}),
    );
    let pages = |client: &mut Client, content: &str| -> i64 {
        let sql = format!(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT slotkeeper.assign_next_available_slot('p', 'q', '{content}')"
        );
        let plan: Value = one(client, &sql);
        let plan = &plan[0]["Plan"];
        ["Shared Hit Blocks", "Shared Read Blocks"]
            .iter()
            .filter_map(|key| plan[*key].as_i64())
            .sum()
    };
    let mut few = 0;
    let mut ahead = 0;
    for bookings in [500, 5_000, 50_000] {
        let items = format!(
            "SELECT slotkeeper.assign_slots(jsonb_agg(jsonb_build_object('profile_id', 'p', 'platform', 'q', 'content_id', 'c' || i)))
             FROM generate_series({ahead}, {bookings}) AS i"
        );
        run(&mut client, &items);
        ahead = bookings + 1;
        // The first ones may write what they find out.
        let mut touched: Vec<i64> = (0..30)
            .map(|i| pages(&mut client, &format!("single-{bookings}-{i}")))
            .collect();
        touched.sort_unstable();
        let (median, runs) = (
            touched[15],
            one::<i64>(&mut client, "SELECT count(*) FROM slotkeeper.full_run"),
        );
        println!("{bookings} bookings ahead: {median} pages, {runs} full runs");
        if few == 0 {
            few = median;
        }
        assert!(
            median <= few * 2 + 10,
            "{median} pages with {bookings} bookings ahead, {few} with 500"
        );
        assert!(runs <= 20, "{runs} full runs with {bookings} bookings ahead");
    }
    // A thousand holes among them are found first, in order, and leave no trace when they are filled.
    run(
        &mut client,
        "SELECT slotkeeper.unschedule_content('c' || i * 50) FROM generate_series(0, 999) AS i",
    );
    let holes = "SELECT array_agg(x) FROM (SELECT slotkeeper.assign_next_available_slot('p', 'q', 'h' || i)->>'scheduled_at' AS x FROM generate_series(0, 999) AS i) AS s";
    let filled: Vec<String> = one(&mut client, holes);
    let expected = "SELECT array_agg(to_char(scheduled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"') ORDER BY granule)
                    FROM slotkeeper.booking WHERE released_at IS NOT NULL";
    assert_eq!(
        filled,
        one::<Vec<String>>(&mut client, expected),
        "holes are not filled in order"
    );
    assign_one(&mut client);
    println!(
        "{} hole rows after all were filled",
        one::<i64>(&mut client, "SELECT count(*) FROM slotkeeper.hole")
    );
    ledger::check(&mut client);
}

fn assign_one(client: &mut Client) {
    let last = slotkeeper_client_tests::assign(client, "q", "last").unwrap();
    let end: String = one(
        client,
        "SELECT to_char(max(scheduled_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"') FROM slotkeeper.booking",
    );
    assert_eq!(
        last["scheduled_at"],
        end.as_str(),
        "with no hole left the next seat is behind all others"
    );
}
