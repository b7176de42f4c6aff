//! As little of HTTP/1.1 as the example needs: one request a connection, bodies of JSON.

use serde_json::Value;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer of the provider.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The seconds of a Retry-After header.
    pub retry_after: Option<u32>,
    /// The body, or null.
    pub body: Value,
}

/// Sends a request and reads the answer to its end.
pub async fn send(host: &str, method: &str, path: &str, key: &str, body: &Value) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(host).await?;
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer"))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let retry_after = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
        .and_then(|(_, seconds)| seconds.trim().parse().ok());
    Some(Answer {
        status,
        retry_after,
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    })
}
