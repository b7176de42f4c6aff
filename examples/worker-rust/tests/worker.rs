//! The worker against a provider that does what a content's name says, and counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::HashMap;
use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use slotkeeper_client_tests::{Database, eventually, one, reply, run, text};
use slotkeeper_worker_example::{Settings, Worker};

/// What the provider was asked for and what it has published. It is not idempotent: twice would show.
#[derive(Default)]
struct Counts {
    calls: HashMap<String, u32>,
    published: HashMap<String, u32>,
    keys: HashMap<String, String>,
}

#[derive(Clone)]
struct Provider {
    counts: Arc<Mutex<Counts>>,
    host: String,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let provider = Self {
            counts: Arc::default(),
            host,
        };
        let serving = provider.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (provider, stream) = (serving.clone(), stream.unwrap());
                thread::spawn(move || provider.serve(stream));
            }
        });
        provider
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut request = vec![0; 8192];
        let length = stream.read(&mut request).unwrap();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        if let Some(answer) = self.answer(&request) {
            stream.write_all(answer.as_bytes()).unwrap();
        } else {
            thread::sleep(Duration::from_secs(20)); // nothing at all
        }
    }

    fn answer(&self, request: &str) -> Option<String> {
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Idempotency-Key: "))
            .unwrap()
            .to_owned();
        let status =
            |line: &str, body: &str| format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let post =
            |content: &str| json!({ "id": content, "url": format!("https://example.com/{content}") }).to_string();
        if request.starts_with("GET") {
            return Some(match self.counts.lock().unwrap().keys.get(&key) {
                Some(content) => status("200 OK", &post(content)),
                None => status("404 Not Found", ""),
            });
        }
        let body: serde_json::Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let content = body["content"].as_str().unwrap().to_owned();
        let is_first = {
            let mut counts = self.counts.lock().unwrap();
            let calls = counts.calls.entry(content.clone()).or_default();
            *calls += 1;
            *calls == 1
        };
        let kind = content.split('-').next().unwrap();
        match kind {
            "limited" if is_first => return Some(status("429 Too Many Requests\r\nRetry-After: 1", "")),
            "refused" => return Some(status("403 Forbidden", "")),
            "silent" => return None,
            "slow" => thread::sleep(Duration::from_millis(2500)),
            _ => {}
        }
        let mut counts = self.counts.lock().unwrap();
        *counts.published.entry(content.clone()).or_default() += 1;
        counts.keys.insert(key, content.clone());
        Some(match kind {
            "timeout" => status("504 Gateway Timeout", ""),
            _ => status("200 OK", &post(&content)),
        })
    }
}

#[test]
fn whatever_the_provider_answers_nothing_is_published_twice_and_everything_ends() {
    let database = Database::new("worker_rust");
    run(
        &mut database.connect(),
        &format!("ALTER DATABASE {} RESET slotkeeper.now", database.name),
    );
    let mut client = database.connect();
    let policy = json!({ "delays": ["1 second"], "jitter": 0 });
    reply(&mut client, "SELECT slotkeeper.set_platform('x', $1)", &[&policy]);
    reply(
        &mut client,
        "SELECT slotkeeper.create_queue('p', 'x', 'UTC', '{}', '{\"granule\": \"1 second\"}')",
        &[],
    );
    let mut contents = Vec::new();
    for kind in ["fine", "limited", "refused", "timeout", "silent", "slow"] {
        contents.extend((0..2).map(|i| format!("{kind}-{i}")));
    }
    for content in &contents {
        let sql = "SELECT slotkeeper.schedule_content('p', 'x', $1, clock_timestamp(), NULL, 'next_free')";
        reply(&mut client, sql, &[content]);
    }
    let provider = Provider::start();
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..3)
        .map(|i| {
            let mut config: tokio_postgres::Config = env::var("SLOTKEEPER_TEST_URL").unwrap().parse().unwrap();
            config.dbname(&database.name).application_name(format!("worker {i}"));
            let mut worker = Worker::new(Settings {
                database: config,
                provider: provider.host.clone(),
                name: format!("worker {i}"),
                lease_seconds: 1,
                pause: Duration::from_millis(100),
                answer_within: Duration::from_secs(4),
            });
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(worker.run(|| stop.load(Ordering::Relaxed))).unwrap();
            })
        })
        .collect();
    // Every connection is lost, again and again.
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(700));
        run(
            &mut client,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'worker _'",
        );
    }
    let ended = "SELECT count(*) FROM slotkeeper.content_status WHERE state IN ('published', 'failed', 'unknown')";
    eventually("everything ends", || {
        one::<i64>(&mut client, ended) == contents.len() as i64
    });
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
    let counts = provider.counts.lock().unwrap();
    for content in &contents {
        let row = client
            .query_one(
                "SELECT state, error FROM slotkeeper.content_status WHERE content_id = $1",
                &[content],
            )
            .unwrap();
        let (state, error): (String, Option<String>) = (row.get(0), row.get(1));
        let published = counts.published.get(content).copied().unwrap_or(0);
        assert!(published <= 1, "{content} was published {published} times");
        match content.split('-').next().unwrap() {
            "refused" => assert_eq!(state, "failed", "{content}"),
            "silent" => assert_eq!(state, "unknown", "{content}"),
            _ => assert_eq!((state.as_str(), published), ("published", 1), "{content}: {error:?}"),
        }
        assert!(
            state == "published" || error.is_some(),
            "{content} is {state} without a reason"
        );
    }
    assert_eq!(counts.calls["limited-0"], 2);
    assert_eq!(counts.calls["silent-0"], 1);
    // A person, or a probe, has found out.
    let resolved = reply(&mut client, "SELECT slotkeeper.resolve_unknown('silent-0', false)", &[]);
    assert_eq!(text(&resolved, "outcome"), "retrying");
}
