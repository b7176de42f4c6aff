//! Through PgBouncer in transaction mode: nothing depends on the session.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use serde_json::Value;
use slotkeeper_client_tests::{Database, eventually, run, text};

/// A pooler before one database, stopped when this is dropped.
struct Pooler {
    process: Child,
    config: Config,
}

impl Pooler {
    fn start(database: &Database) -> Self {
        let program = env::var("SLOTKEEPER_PGBOUNCER").unwrap_or_default();
        assert!(
            Path::new(&program).is_file(),
            "SLOTKEEPER_PGBOUNCER names no program: {program:?}; `cargo xtask test` installs PgBouncer and sets it"
        );
        let folder = PathBuf::from(env::var("SLOTKEEPER_SCRATCH").expect("SLOTKEEPER_SCRATCH is set")).join("pooler");
        fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (sockets, server_port) = (
            env::var("SLOTKEEPER_TEST_SOCKETS").unwrap(),
            env::var("SLOTKEEPER_TEST_PORT").unwrap(),
        );
        let users = folder.join("users");
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let settings = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{0} = host={sockets} port={server_port} dbname={0}\n[pgbouncer]\npool_mode = transaction\n\
             default_pool_size = 4\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {1}\n",
            database.name,
            users.display()
        );
        fs::write(&settings, text).unwrap();
        // It refuses to run as root.
        let mut command = match env::var("SLOTKEEPER_RUN_AS") {
            Ok(user) if !user.is_empty() => {
                let mut command = Command::new("runuser");
                command.args(["-u", &user, "--", &program]);
                command
            }
            _ => Command::new(&program),
        };
        let process = command
            .arg("--quiet")
            .arg(&settings)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer starts");
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .user("postgres")
            .dbname(&database.name);
        eventually("PgBouncer answers", || config.connect(NoTls).is_ok());
        Self { process, config }
    }

    fn connect(&self) -> Client {
        self.config.connect(NoTls).expect("connect through PgBouncer")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // runuser passes the signal on to its child.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// A call's reply and the server process that gave it: one statement, so one transaction.
fn said(client: &mut Client, call: &str) -> (Value, String) {
    let messages = client
        .simple_query(&format!("SELECT {call}, pg_backend_pid()"))
        .unwrap_or_else(|error| panic!("{call}: {error}"));
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.expect("a row");
    (
        serde_json::from_str(row.get(0).unwrap()).unwrap(),
        row.get(1).unwrap().to_owned(),
    )
}

/// Protection: the token is all that a holder needs; no lock, setting or temporary table of the session is.
#[test]
fn begin_and_finish_go_through_different_connections() {
    let database = Database::new("request_pooler");
    let pooler = Pooler::start(&database);
    let mut client = pooler.connect();
    let mut different = 0;
    for round in 0..20 {
        let key = format!("k{round}");
        let (begun, first) = said(
            &mut client,
            &format!("slotkeeper.begin_request('{key}', 'POST', '/x', p_wait => '0')"),
        );
        assert_eq!(begun["outcome"], "started");
        // Somebody else gets the connection that the begin went through, and keeps it.
        let mut other = pooler.connect();
        run(&mut other, "BEGIN");
        let (asked, _) = said(
            &mut other,
            &format!("slotkeeper.begin_request('{key}', 'POST', '/x', p_wait => '0')"),
        );
        assert_eq!(asked["outcome"], "in_progress");
        let (finished, second) = said(
            &mut client,
            &format!("slotkeeper.finish_request('{}', 200, '{round}')", text(&begun, "token")),
        );
        assert_eq!(finished["outcome"], "finished");
        different += usize::from(first != second);
        run(&mut other, "COMMIT");
        let (replayed, _) = said(
            &mut other,
            &format!("slotkeeper.begin_request('{key}', 'POST', '/x', p_wait => '0')"),
        );
        assert_eq!(
            (&replayed["outcome"], &replayed["body"]),
            (&"replayed".into(), &round.into())
        );
    }
    assert!(different > 0, "every finish went through the connection of its begin");
}
