//! Reading the full-text index, and the texts that are not in it yet.
//!
//! Its rows have the places of their messages, so the matches in one conversation lie side by side and are read
//! backwards from the newest: what a search costs depends on the conversations it looks in, not on all others.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::query::{message_columns, stored_message};
use super::value::{text, to_sql, unsigned};
use super::{index, place};
use crate::names::ConversationId;
use crate::store::limits::octets_of_stored;
use crate::store::{Search, SearchTerms, StoredMessage};

pub(super) fn search(
    connection: &Connection,
    search: &Search,
) -> rusqlite::Result<Vec<StoredMessage>> {
    let scopes = scopes(connection, search)?;
    let mut found = Found { places: BTreeSet::new(), limit: search.limit };
    find_noted(connection, search, &scopes, &mut found)?;
    if search.terms.is_open() {
        find_openly(connection, search, &scopes, &mut found)?;
    } else {
        for scope in &scopes {
            if found.is_settled(scope.last_time) {
                break;
            }
            find_in(connection, search, scope, &mut found)?;
        }
    }
    let mut messages = Vec::new();
    let mut octets = 0;
    for (_, conversation, _, place) in found.places.into_iter().rev() {
        let message = connection
            .prepare_cached(concat!(
                "SELECT ",
                message_columns!(),
                " FROM message m WHERE m.place = ?1"
            ))?
            .query_row([place], |row| stored_message(row, conversation.clone()))?;
        octets += octets_of_stored(&message);
        messages.push(message);
        if octets >= search.max_octets {
            break;
        }
    }
    Ok(messages)
}

/// A conversation that is looked in
struct Scope {
    id: i64,
    name: ConversationId,
    after_seq: u64,
    last_time: u64,
    /// Nothing newer than this
    latest: u64,
    before_seq: u64,
}

impl Scope {
    fn read(row: &Row<'_>, after_seq: u64, search: &Search) -> rusqlite::Result<Self> {
        let name: ConversationId = text(row, 1)?;
        let bounds = search.after.as_ref().map(|cursor| cursor.bounds(&name));
        let (latest, before_seq) = bounds.unwrap_or((u64::MAX, u64::MAX));
        let (id, last_time) = (row.get(0)?, unsigned(row, 2)?);
        Ok(Self { id, name, after_seq, last_time, latest, before_seq })
    }
}

/// The conversations to look in, the one with the latest message first
fn scopes(connection: &Connection, search: &Search) -> rusqlite::Result<Vec<Scope>> {
    let mut scopes = Vec::new();
    if let Some(user) = &search.direct_of {
        let direct = connection
            .prepare_cached(
                "SELECT c.id, c.name, c.last_time FROM party p
                 JOIN conversation c ON c.id = p.conversation WHERE p.user = ?1",
            )?
            .query_map([user.as_str()], |row| Scope::read(row, 0, search))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        scopes.extend(direct);
    }
    for scope in &search.within {
        let found = connection
            .prepare_cached("SELECT id, name, last_time FROM conversation WHERE name = ?1")?
            .query_row([scope.conversation.as_str()], |row| {
                Scope::read(row, scope.after_seq, search)
            })
            .optional()?;
        scopes.extend(found);
    }
    scopes.sort_by_key(|scope| std::cmp::Reverse(scope.last_time));
    Ok(scopes)
}

/// The newest matches so far
struct Found {
    /// Timestamp, conversation, `seq`, place
    places: BTreeSet<(u64, ConversationId, u64, i64)>,
    limit: usize,
}

impl Found {
    fn add(&mut self, time: u64, scope: &Scope, place: i64) {
        self.places.insert((time, scope.name.clone(), place::seq(place), place));
        if self.places.len() > self.limit {
            self.places.pop_first();
        }
    }

    /// Whether a conversation with nothing after `last_time` adds nothing
    fn is_settled(&self, last_time: u64) -> bool {
        let oldest = self.places.first();
        self.places.len() >= self.limit && oldest.is_none_or(|(time, ..)| *time > last_time)
    }
}

/// Reads the matches in one conversation, the newest first
fn find_in(
    connection: &Connection,
    search: &Search,
    scope: &Scope,
    found: &mut Found,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT word.rowid, m.time FROM word CROSS JOIN message m ON m.place = word.rowid
         WHERE word MATCH ?1 AND word.rowid > ?2 AND word.rowid < ?3 AND m.time <= ?4
         ORDER BY word.rowid DESC LIMIT ?5",
    )?;
    let end = match scope.before_seq {
        u64::MAX => place::of(scope.id + 1, 0),
        seq => place::of(scope.id, seq),
    };
    let mut rows = statement.query(params![
        expression(&search.terms),
        place::of(scope.id, scope.after_seq),
        end,
        to_sql(scope.latest),
        to_sql(search.limit as u64),
    ])?;
    while let Some(row) = rows.next()? {
        found.add(unsigned(row, 1)?, scope, row.get(0)?);
    }
    Ok(())
}

/// Reads all matches at once: for words of which only the beginning is known, the index gathers the matches of all
/// conversations first, whichever are asked for
fn find_openly(
    connection: &Connection,
    search: &Search,
    scopes: &[Scope],
    found: &mut Found,
) -> rusqlite::Result<()> {
    let scopes = by_id(scopes);
    let mut matching = connection.prepare_cached("SELECT rowid FROM word WHERE word MATCH ?1")?;
    let mut time = connection.prepare_cached("SELECT time FROM message WHERE place = ?1")?;
    let mut rows = matching.query([expression(&search.terms)])?;
    while let Some(row) = rows.next()? {
        let place: i64 = row.get(0)?;
        let Some(scope) = scope_of(&scopes, place) else { continue };
        let time = time.query_row([place], |row| unsigned(row, 0))?;
        if time <= scope.latest {
            found.add(time, scope, place);
        }
    }
    Ok(())
}

/// Looks through the texts that the index has yet to take
fn find_noted(
    connection: &Connection,
    search: &Search,
    scopes: &[Scope],
    found: &mut Found,
) -> rusqlite::Result<()> {
    let scopes = by_id(scopes);
    let mut texts = index::Reader::new(connection)?;
    for place in index::noted(connection)? {
        let Some(scope) = scope_of(&scopes, place) else { continue };
        let matches = |text: &str, time| search.terms.match_text(text).then_some(time);
        let time = texts.with_text(place, matches)?.flatten();
        if let Some(time) = time.filter(|time| *time <= scope.latest) {
            found.add(time, scope, place);
        }
    }
    Ok(())
}

fn by_id(scopes: &[Scope]) -> HashMap<i64, &Scope> {
    scopes.iter().map(|scope| (scope.id, scope)).collect()
}

/// The scope that a message is in
fn scope_of<'a>(scopes: &HashMap<i64, &'a Scope>, place: i64) -> Option<&'a Scope> {
    let scope = scopes.get(&place::conversation(place))?;
    (scope.after_seq + 1..scope.before_seq).contains(&place::seq(place)).then_some(*scope)
}

/// What is looked for, as FTS5 writes it; words have nothing that would need an escape
fn expression(terms: &SearchTerms) -> String {
    let phrases = terms.phrases().iter().map(|phrase| {
        let open = if phrase.open { " *" } else { "" };
        format!("\"{}\"{open}", phrase.words.join(" "))
    });
    phrases.collect::<Vec<_>>().join(" AND ")
}
