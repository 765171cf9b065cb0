//! The crate's error type.

/// Why bytes are no pickle, or not one that can be understood. The caller knows which file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before the pickle does.
    #[error("the pickle ends at byte {offset}, where {expected} was expected")]
    Truncated {
        /// Where the bytes end.
        offset: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// An instruction that cannot be.
    #[error("byte {offset} of the pickle: {problem}")]
    Malformed {
        /// Position of the instruction.
        offset: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// More instructions than [`Limits`](crate::Limits) allow.
    #[error("the pickle has more than {opcodes} instructions")]
    TooLong {
        /// The limit.
        opcodes: usize,
    },
    /// A value that is not what it was taken for.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What was wanted.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;
