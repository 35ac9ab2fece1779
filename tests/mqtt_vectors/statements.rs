//! Every numbered statement of both specifications: those a decoder can see, and the others with a word why it cannot.
//!
//! The numbers alone are written here, as `chapter: numbers`; the texts are in the specifications' appendices.

/// What a decoder of version 5 can see broken, or kept.
pub const SEEN_V5: &[&str] = &[
    "1.5.4: 1 2 3",
    "1.5.5: 1",
    "1.5.7: 1",
    "2.1.3: 1",
    "2.2.1: 2 3 4 5 6",
    "2.2.2: 1",
    "3.1.0: 1",
    "3.1.2: 1 2 3 9 11 12 13 16 17 18 19 24",
    "3.1.3: 1 3 4 5 6 10 11 12",
    "3.1.4: 1",
    "3.2.2: 1 6 8 15",
    "3.3.1: 2 4",
    "3.3.2: 1 2 8 13 14 18 19",
    "3.3.4: 6",
    "3.4.2: 1",
    "3.5.2: 1",
    "3.6.1: 1",
    "3.6.2: 1",
    "3.7.2: 1",
    "3.8.1: 1",
    "3.8.3: 1 2 4 5",
    "3.9.3: 2",
    "3.10.1: 1",
    "3.10.3: 1 2",
    "3.11.3: 2",
    "3.14.1: 1",
    "3.14.2: 1 2",
    "3.15.1: 1",
    "3.15.2: 1",
    "4.3.1: 1",
    "4.7.0: 1",
    "4.7.1: 1 2",
    "4.7.3: 1 2 3",
    "4.8.2: 1 2",
];

/// What it cannot see, and who does.
pub const UNSEEN_V5: &[(&str, &[&str])] = &[
    (
        "what a session remembers",
        &[
            "3.1.0: 2",
            "3.1.2: 4 5 6 23",
            "3.1.3: 2",
            "3.1.4: 3 4",
            "3.2.2: 2 3 4 5",
            "4.1.0: 1 2",
            "4.4.0: 1 2",
        ],
    ),
    ("when and how a will is published", &["3.1.2: 7 8 10 14 15", "3.1.3: 9"]),
    ("time", &["3.1.2: 20 21 22", "3.2.2: 21 22", "3.3.2: 5 6"]),
    (
        "what CONNECT and CONNACK agreed on",
        &["3.1.2: 25 26 27 28 29 30", "3.2.2: 9 10 11 12 13 14 17 18", "3.3.2: 7 9 10 11 12"],
    ),
    (
        "what is answered, and in which order",
        &[
            "3.1.3: 7 8",
            "3.1.4: 2 5 6",
            "3.2.0: 1 2",
            "3.2.2: 7 16",
            "3.3.4: 1",
            "3.8.4: 1 2 5 6 7",
            "3.9.3: 1",
            "3.10.4: 4 5 6",
            "3.11.3: 1",
            "3.12.4: 1",
        ],
    ),
    (
        "the length of what is sent, cut by the session",
        &[
            "3.2.2: 19 20",
            "3.4.2: 2 3",
            "3.5.2: 2 3",
            "3.6.2: 2 3",
            "3.7.2: 2 3",
            "3.9.2: 1 2",
            "3.11.2: 1 2",
            "3.14.2: 3 4",
            "3.15.2: 2 3",
        ],
    ),
    ("what is sent again", &["3.3.1: 1 3"]),
    ("retained messages", &["3.3.1: 5 6 7 8 9 10 11 12 13"]),
    (
        "what reaches subscribers",
        &[
            "3.3.2: 3 4 15 16 17 20",
            "3.3.4: 2 3 4 5",
            "3.8.3: 3",
            "3.8.4: 3 4 8",
            "3.10.4: 1 2 3",
            "4.5.0: 1 2",
        ],
    ),
    ("flow control", &["3.3.4: 7 8 9 10", "4.9.0: 1 2 3"]),
    ("the end of a connection", &["3.14.0: 1", "3.14.4: 1 2 3", "4.13.1: 1", "4.13.2: 1"]),
    ("the transport", &["4.2.0: 1", "6.0.0: 1 2 3 4"]),
    (
        "the exchanges of QoS 1 and 2",
        &["4.3.2: 1 2 3 4 5", "4.3.3: 1 2 3 4 5 6 7 8 9 10 11 12 13"],
    ),
    ("order", &["4.6.0: 1 2 3 4 5 6"]),
    ("matching, proven beside mqtt::topic::matches", &["4.7.2: 1", "4.7.3: 4"]),
    ("shared delivery", &["4.8.2: 3 4 5 6"]),
    ("the steps of an authentication", &["4.12.0: 1 2 3 4 5 6 7", "4.12.1: 1 2"]),
];

/// Numbered statements of version 5, from 1.5.4 to 6.0.0 (its appendix B).
pub const COUNT_V5: usize = 251;

/// The same for 3.1.1.
pub const SEEN_V311: &[&str] = &[
    "1.5.3: 1 2 3",
    "2.2.2: 1 2",
    "2.3.1: 1 5 6 7",
    "3.1.0: 1",
    "3.1.2: 1 2 3 9 11 13 14 15 18 19 20 21 22",
    "3.1.3: 1 3 4 5 6 10 11",
    "3.1.4: 1",
    "3.2.2: 4",
    "3.3.1: 2 4",
    "3.3.2: 1 2",
    "3.6.1: 1",
    "3.8.1: 1",
    "3.8.3: 1 3 4",
    "3.9.3: 2",
    "3.10.1: 1",
    "3.10.3: 1 2",
    "3.14.1: 1",
    "4.3.1: 1",
    "4.7.1: 1 2 3",
    "4.7.3: 1 2 3",
];

/// The same for 3.1.1.
pub const UNSEEN_V311: &[(&str, &[&str])] = &[
    ("which identifiers are in use", &["2.3.1: 2 3 4"]),
    (
        "what a session remembers",
        &[
            "3.1.0: 2",
            "3.1.2: 4 5 6 7",
            "3.1.3: 2",
            "3.1.4: 2 3",
            "3.2.2: 1 2 3",
            "4.1.0: 1 2",
            "4.4.0: 1",
        ],
    ),
    ("when and how a will is published", &["3.1.2: 8 10 12 16 17"]),
    ("time", &["3.1.2: 23 24"]),
    ("the session's answer to an empty client identifier", &["3.1.3: 7 8 9"]),
    (
        "what is answered, and in which order",
        &[
            "3.1.4: 4 5",
            "3.2.0: 1",
            "3.2.2: 5 6",
            "3.3.4: 1",
            "3.8.4: 1 2 4 5",
            "3.9.3: 1",
            "3.10.4: 4 5 6",
            "3.12.4: 1",
        ],
    ),
    ("what is sent again", &["3.3.1: 1 3"]),
    ("retained messages", &["3.3.1: 5 6 7 8 9 10 11 12"]),
    (
        "what reaches subscribers",
        &["3.3.2: 3", "3.3.5: 1 2", "3.8.3: 2", "3.8.4: 3 6", "3.10.4: 1 2 3", "4.5.0: 1 2"],
    ),
    ("the end of a connection", &["3.14.4: 1 2 3", "4.8.0: 1 2"]),
    ("the exchanges of QoS 1 and 2", &["4.3.2: 1 2", "4.3.3: 1 2"]),
    ("order", &["4.6.0: 1 2 3 4 5 6"]),
    ("matching, proven beside mqtt::topic::matches", &["4.7.2: 1", "4.7.3: 4"]),
    ("the transport", &["6.0.0: 1 2 3 4", "7.1.1: 1", "7.1.2: 1"]),
    ("what a whole implementation is", &["7.0.0: 1 2"]),
];

/// Numbered statements of 3.1.1 (its appendix B).
pub const COUNT_V311: usize = 141;

/// `3.1.2: 1 2` as `3.1.2-1` and `3.1.2-2`.
pub fn expand(lists: &[&str]) -> Vec<String> {
    let one = |list: &&str| {
        let (chapter, numbers) = list.split_once(": ").unwrap();
        let ids: Vec<String> = numbers.split(' ').map(|number| format!("{chapter}-{number}")).collect();
        ids
    };
    lists.iter().flat_map(one).collect()
}
