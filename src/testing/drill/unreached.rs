//! Rows of the session's transition table that the fixed seeds of CI do not take, and why not.

use stellate_protocol::session::Row;

/// See the module. All other rows must be taken by the fixed seeds that CI runs.
pub const UNREACHED: [(Row, &str); 2] = [
    (
        Row::DialledLate,
        "our session actor drops a link that came too late before the session hears of it",
    ),
    (
        Row::Faulted,
        "our actors end a session whose own actor failed from its ledger, since the state machine \
         went with it",
    ),
];
