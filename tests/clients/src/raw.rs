//! A connection that can be broken off like a pulled cable: no goodbye, a statement still under way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use postgres::config::Host;

use crate::Database;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A session that is cut off when this is dropped.
pub struct RawSession(Box<dyn Stream>);

impl RawSession {
    /// Connects as the configured user, who needs no password.
    pub fn open(database: &Database) -> Self {
        let config = database.config();
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let mut stream: Box<dyn Stream> = match config.get_hosts().first().expect("a host") {
            Host::Tcp(name) => Box::new(TcpStream::connect((name.as_str(), port)).expect("connect")),
            Host::Unix(folder) => {
                Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).expect("connect"))
            }
        };
        let user = config.get_user().unwrap_or("postgres");
        let mut startup = 196_608_i32.to_be_bytes().to_vec();
        for part in ["user", user, "database", &database.name, ""] {
            startup.extend_from_slice(part.as_bytes());
            startup.push(0);
        }
        let length = startup.len() as i32 + 4;
        stream.write_all(&length.to_be_bytes()).expect("write");
        stream.write_all(&startup).expect("write");
        let mut session = Self(stream);
        session.read_until_ready();
        session
    }

    /// Sends statements and does not wait for them.
    pub fn send(&mut self, sql: &str) {
        let mut message = vec![b'Q'];
        message.extend_from_slice(&(sql.len() as i32 + 5).to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        self.0.write_all(&message).expect("write");
    }

    /// Reads the answers to what was sent.
    pub fn read_until_ready(&mut self) {
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).expect("read");
            let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).expect("read");
            match head[0] {
                b'E' => panic!("{}", String::from_utf8_lossy(&body).replace('\0', " ")),
                b'R' => assert_eq!(
                    body[..4],
                    [0; 4],
                    "the server asks for a password: it must trust this user"
                ),
                b'Z' => return,
                _ => {}
            }
        }
    }
}
