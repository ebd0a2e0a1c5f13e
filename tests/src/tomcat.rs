//! A stand-in for an application whose sessions live in its memory, as iTrust's in Tomcat: who comes with a session of
//! another instance gets the login page, with status 200 and a new session. It fails when it is told to, and counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::origin::{Origin, Played};
use crate::wire::Message;

/// One instance.
#[derive(Debug)]
pub struct Tomcat {
    played: Played,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// The user of each session, by its id; empty before the login.
    sessions: Mutex<BTreeMap<String, String>>,
    begun: AtomicU64,
    served: AtomicU64,
    failing: AtomicBool,
}

impl Tomcat {
    /// Starts one. Its pages are `/login?NAME`, which begins the session of a user under a new id, `/home`, which greets
    /// the user by name, `/plain`, which has no session, and any other, which is the login page.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(name: &str) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            name: name.to_owned(),
            sessions: Mutex::default(),
            begun: AtomicU64::new(0),
            served: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        });
        let playing = Arc::clone(&state);
        let played = Origin::bind().await?.play(move |request| playing.answer(request));
        Ok(Self { played, state })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.played.address()
    }

    /// Requests that it answered, well or badly.
    pub fn served(&self) -> u64 {
        self.state.served.load(Ordering::SeqCst)
    }

    /// Sessions that it began.
    pub fn sessions(&self) -> u64 {
        self.state.begun.load(Ordering::SeqCst)
    }

    /// From now on it answers everything with 500, or as it should.
    pub fn fail(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::SeqCst);
    }

    /// Every request that came in full.
    ///
    /// # Errors
    /// As [`Played::requests`].
    pub fn requests(&self) -> anyhow::Result<Vec<Message>> {
        Ok(self.played.requests()?.into_iter().flat_map(|(requests, _)| requests).collect())
    }
}

impl State {
    fn answer(&self, request: &Message) -> Vec<u8> {
        self.served.fetch_add(1, Ordering::SeqCst);
        if self.failing.load(Ordering::SeqCst) {
            return response("500 Internal Server Error", None, "broken");
        }
        let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
        if path == "/plain" {
            return response("200 OK", None, &self.name);
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let carried = session_of(request).filter(|id| sessions.contains_key(*id)).map(str::to_owned);
        match (path, &carried) {
            ("/login", _) => {
                // As Tomcat does against fixed sessions: another id, and the one before is none any more.
                carried.iter().for_each(|id| drop(sessions.remove(id)));
                let id = self.begin();
                sessions.insert(id.clone(), query.to_owned());
                response("200 OK", Some(&id), "welcome")
            }
            ("/home", Some(id)) if !sessions[id].is_empty() => {
                response("200 OK", None, &format!("hello {} from {}", sessions[id], self.name))
            }
            (_, Some(_)) => response("200 OK", None, "please log in"),
            _ => {
                let id = self.begin();
                sessions.insert(id.clone(), String::new());
                response("200 OK", Some(&id), "please log in")
            }
        }
    }

    fn begin(&self) -> String {
        format!("{}{:08X}", self.name, self.begun.fetch_add(1, Ordering::SeqCst))
    }
}

fn session_of(request: &Message) -> Option<&str> {
    let cookies = request.all("cookie").into_iter().flat_map(|line| line.split(';'));
    cookies.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == "JSESSIONID").map(|(_, id)| id)
}

fn response(status: &str, session: Option<&str>, body: &str) -> Vec<u8> {
    let session = session.map(|id| format!("Set-Cookie: JSESSIONID={id}; Path=/; HttpOnly\r\n")).unwrap_or_default();
    format!("HTTP/1.1 {status}\r\n{session}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
