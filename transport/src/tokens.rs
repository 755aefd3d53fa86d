//! The tokens of a link: hands them out, and reports each as done exactly once (F1).

use crate::link::{Batch, Done, Token};

/// Counts the accepted submits of a link and those that are over.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: u64,
    over: u64,
}

impl Tokens {
    /// The next token.
    pub(crate) fn issue(&mut self) -> Token {
        self.issued += 1;
        Token(self.issued)
    }

    /// Submits that are not over.
    pub(crate) fn open(&self) -> u64 {
        self.issued - self.over
    }

    /// Reports that the oldest `count` open submits were sent.
    pub(crate) fn sent(&mut self, count: u64, out: &mut Batch) {
        if count == 0 {
            return;
        }
        self.over += count;
        assert!(self.over <= self.issued, "F1: one Done per submit");
        out.note_done(Done { upto: Token(self.over), failed: 0 });
    }

    /// Reports all open submits as failed.
    pub(crate) fn fail_open(&mut self, out: &mut Batch) {
        let failed = self.open();
        if failed == 0 {
            return;
        }
        self.over = self.issued;
        out.note_done(Done { upto: Token(self.over), failed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_each_token_is_over_once() {
        let mut tokens = Tokens::default();
        let mut out = Batch::default();
        assert_eq!(
            (tokens.issue(), tokens.issue(), tokens.issue()),
            (Token(1), Token(2), Token(3))
        );
        tokens.sent(1, &mut out);
        tokens.fail_open(&mut out);
        tokens.fail_open(&mut out);
        let expected = Done { upto: Token(3), failed: 2 };
        assert_eq!((out.done, tokens.open()), (Some(expected), 0));
    }
}
