//! Mail to people: what to say, a queue on disk, and the way to the SMTP server.
