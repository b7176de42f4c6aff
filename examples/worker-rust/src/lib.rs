//! A worker that asks for whatever is due, publishes it, and tells what came of it.
//!
//! Each call of slotkeeper's is a transaction of its own, and each may be asked again after a lost connection.

pub mod http;

use http::Answer;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls};

/// After so many lost connections in a row the worker gives up.
const MAX_LOST: u32 = 10;

/// What a worker needs to know.
#[derive(Clone)]
pub struct Settings {
    /// Its database.
    pub database: Config,
    /// The provider, as `host:port`.
    pub provider: String,
    /// Its name, which `leased` answers show.
    pub name: String,
    /// How long it holds a content without a sign of life.
    pub lease_seconds: u32,
    /// It asks so often for what is due.
    pub pause: Duration,
    /// It waits so long for an answer of the provider.
    pub answer_within: Duration,
}

/// A worker with its connection.
pub struct Worker {
    settings: Settings,
    client: Option<Client>,
}

/// What a call of slotkeeper's replied, and how often it was asked.
struct Reply(Value, u32);

impl Reply {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Worker {
    /// A worker that connects when it needs to.
    pub fn new(settings: Settings) -> Self {
        Self { settings, client: None }
    }

    /// Publishes whatever is due, until `stop` says so between two contents.
    pub async fn run(&mut self, stop: impl Fn() -> bool) -> Result<(), Error> {
        while !stop() {
            match self.claim().await? {
                Value::Object(claim) => self.publish(&Value::Object(claim)).await?,
                _ => sleep(self.settings.pause).await,
            }
        }
        Ok(())
    }

    /// One content that is due, or null. A claim whose answer was lost runs out by itself.
    async fn claim(&mut self) -> Result<Value, Error> {
        let (name, lease) = (self.settings.name.clone(), self.lease());
        let sql = "SELECT to_jsonb(c) FROM slotkeeper.claim_due_content($1, 1, $2::text::interval) AS c";
        Ok(self.call(sql, &[&name, &lease]).await?.0)
    }

    async fn publish(&mut self, claim: &Value) -> Result<(), Error> {
        let field = |key: &str| claim[key].as_str().unwrap_or_default().to_owned();
        let (token, key, content) = (field("lease_token"), field("publish_key"), field("content_id"));
        // Committed before the call is made: from here on nobody else makes it.
        let begun = self.call("SELECT slotkeeper.begin_publish($1)", &[&token]).await?;
        // Asked again after a lost connection: the first one was ours, and the call isn't made yet.
        let is_ours = begun.text("reason") == "begun_before" && begun.1 > 1;
        if begun.text("outcome") != "proceed" && !is_ours {
            return Ok(());
        }
        let host = self.settings.provider.clone();
        let body = json!({ "content": content });
        let call = http::send(&host, "POST", "/posts", &key, &body);
        let told = match timeout(self.settings.answer_within, self.keeping(&token, call)).await {
            Ok(Ok(answer)) if answer.status == 200 => self.confirm(&token, &answer).await?,
            Ok(Ok(answer)) => self.failed(&token, &answer).await?,
            // Nothing was heard: the lease runs out, and the content is unknown until a probe finds out.
            Ok(Err(_)) | Err(_) => return Ok(()),
        };
        // A failure that had to be told twice answers stale_token the second time.
        let was_told = told.text("outcome") == "stale_token" && told.1 > 1;
        if told.text("outcome") == "unknown" || was_told {
            self.find_out(&token, &key).await?;
        }
        Ok(())
    }

    /// Extends the lease for as long as the call takes.
    async fn keeping<T>(&mut self, token: &str, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        let every = Duration::from_secs(self.settings.lease_seconds.into()) / 3;
        loop {
            if let Ok(done) = timeout(every, &mut call).await {
                return done;
            }
            let lease = self.lease();
            // The call goes on in any case; a lease that is over is late, not lost.
            let sql = "SELECT slotkeeper.extend_lease($1, $2::text::interval)";
            drop(self.call(sql, &[&token, &lease]).await);
        }
    }

    async fn confirm(&mut self, token: &str, answer: &Answer) -> Result<Reply, Error> {
        let (id, url) = (answer.body["id"].as_str(), answer.body["url"].as_str());
        self.call("SELECT slotkeeper.confirm_publish($1, $2, $3)", &[&token, &id, &url])
            .await
    }

    async fn failed(&mut self, token: &str, answer: &Answer) -> Result<Reply, Error> {
        let error = format!("the provider answered {}", answer.status);
        let retry_after = answer.retry_after.map(|seconds| format!("{seconds} seconds"));
        let values: [&(dyn ToSql + Sync); 4] = [&token, &error, &i32::from(answer.status), &retry_after];
        let sql = "SELECT slotkeeper.fail_publish($1, $2, $3, $4::text::interval)";
        self.call(sql, &values).await
    }

    /// Asks the provider, by the key, whether an attempt without a clear answer is out.
    async fn find_out(&mut self, token: &str, key: &str) -> Result<(), Error> {
        let (host, path) = (self.settings.provider.clone(), format!("/posts/{key}"));
        let asked = http::send(&host, "GET", &path, key, &Value::Null);
        if let Ok(Ok(answer)) = timeout(self.settings.answer_within, asked).await
            && answer.status == 200
        {
            self.confirm(token, &answer).await?;
        }
        Ok(())
    }

    fn lease(&self) -> String {
        format!("{} seconds", self.settings.lease_seconds)
    }

    /// Asks the database, again after a lost connection.
    async fn call(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Reply, Error> {
        let mut asked = 1;
        loop {
            match self.ask(sql, values).await {
                Ok(reply) => return Ok(Reply(reply, asked)),
                Err(error) if asked <= MAX_LOST && is_lost(&error) => {
                    self.client = None;
                    sleep(Duration::from_millis(50) * asked).await;
                    asked += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask(&mut self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Value, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let (client, connection) = self.settings.database.connect(NoTls).await?;
                tokio::spawn(connection);
                client
            }
        };
        let client = self.client.insert(client);
        let row = client.query_opt(sql, values).await?;
        Ok(row.map_or(Value::Null, |row| row.get(0)))
    }
}

/// The connection is gone, or the server is stopping: 57P01 to 57P03.
fn is_lost(error: &Error) -> bool {
    error.code().is_none_or(|code| code.code().starts_with("57P"))
}
