//! Zeek's JSON logs: one object a line, keyed by column; streaming logs add `_path`, the log's name.

use super::json::{self, Fields, Node};
use super::scalar::Scalar;
use super::zeek::{Column, Connection};
use crate::fault::{Fault, Reason};

/// Reads one line.
///
/// # Errors
/// `NotFlow` for other logs, `BadLine` for what is no JSON object.
pub(super) fn connection(line: &[u8]) -> Result<Connection<'_>, Fault> {
    let mut found = Line::default();
    json::walk(line, Group::Root, &mut found)?;
    match found.path {
        Some(Scalar::Text(path)) if path != "conn" => {
            let path = Scalar::Text(path).shown();
            Err(Fault::new(Reason::NotFlow, format!("a line of Zeek's log {path}, not of \"conn\"")))
        }
        None if !found.is_conn => Err(Fault::new(Reason::NotFlow, "a line of a Zeek log other than conn")),
        _ => Ok(found.connection),
    }
}

#[derive(Debug, Default)]
struct Line<'a> {
    connection: Connection<'a>,
    path: Option<Scalar<'a>>,
    /// Has a column that only the connection log has.
    is_conn: bool,
}

#[derive(Debug, Clone, Copy)]
enum Group {
    Root,
    Id,
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Path,
    Column(Column),
}

impl<'a> Fields<'a> for Line<'a> {
    type Group = Group;
    type Field = Field;

    fn child(group: Group, key: &str) -> Node<Group, Field> {
        let column = match (group, key) {
            (Group::Root, "_path") => return Node::Field(Field::Path),
            (Group::Root, "id") => return Node::Group(Group::Id),
            (Group::Root, name) => Column::named(name),
            (Group::Id, "orig_h") => Some(Column::OrigH),
            (Group::Id, "orig_p") => Some(Column::OrigP),
            (Group::Id, "resp_h") => Some(Column::RespH),
            (Group::Id, "resp_p") => Some(Column::RespP),
            (Group::Id, _) => None,
        };
        column.map_or(Node::Other, |column| Node::Field(Field::Column(column)))
    }

    fn set(&mut self, field: Field, value: Scalar<'a>) {
        match field {
            Field::Path => self.path = Some(value),
            Field::Column(column) => {
                self.is_conn |= matches!(
                    column,
                    Column::ConnState | Column::OrigPkts | Column::OrigIpBytes | Column::RespPkts | Column::RespIpBytes
                );
                self.connection.set(column, value);
            }
        }
    }
}
