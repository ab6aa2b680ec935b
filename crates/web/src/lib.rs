//! The server's shell: sign-in, audit, pages, live updates, limits.
