//! `rhd table head|schema|stats|save`.

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    table::{Rows, Schema, Stats},
};
use serde_json::Value;

use super::{
    Context, folder,
    spot::{Spot, spot},
    ui::{Ui, size},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print the first rows
    Head {
        /// The table: PATH or NODE:PATH, a folder of Parquet files or one such file
        #[arg(value_parser = spot)]
        table: Spot,
        /// How many rows
        #[arg(short = 'n', long, default_value_t = 10)]
        rows: u32,
        /// Only these columns
        #[arg(long, value_delimiter = ',')]
        columns: Option<Vec<String>>,
        /// Print JSON: an object for each row
        #[arg(long)]
        json: bool,
    },
    /// Print the columns
    Schema {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        table: Spot,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print rows, sizes and what is known of each column, without reading the table
    Stats {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        table: Spot,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Save a table as the newest version of a name, on its node; prints its hash
    Save {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        table: Spot,
        /// What to call it
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let at = |table: Spot| {
        let place = table.place()?;
        Ok::<_, ErrorInfo>(client.table(&place.path, place.node.as_deref()))
    };
    match args.verb {
        Verb::Head { table, rows, columns, json } => {
            let head = at(table)?.head(rows, columns).await?;
            if json { ui.json(&objects(&head)?) } else { shown(&head, ui) }
        }
        Verb::Schema { table, json } => {
            let Schema { columns, .. } = at(table)?.schema().await?;
            if json {
                return ui.json(&columns);
            }
            let rows = columns.into_iter().map(|column| {
                let note = match (column.partition, column.nullable) {
                    (true, _) => "partition",
                    (false, true) => "",
                    (false, false) => "required",
                };
                vec![column.name, column.kind, note.into()]
            });
            ui.table(&["COLUMN", "TYPE", ""], &rows.collect::<Vec<_>>())
        }
        Verb::Stats { table, json } => {
            let stats = at(table)?.stats().await?;
            if json { ui.json(&stats) } else { summed(stats, ui) }
        }
        Verb::Save { table, name, json } => {
            folder::save(&client, &table, name, true, json, ui).await
        }
    }
}

fn summed(stats: Stats, ui: &mut Ui) -> Result<(), ErrorInfo> {
    ui.line(&format!(
        "{} rows, {} in {} files, {} row groups",
        stats.rows,
        size(stats.bytes),
        stats.files,
        stats.row_groups
    ))?;
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let rows = stats.columns.into_iter().map(|column| {
        let nulls = known(column.nulls.map(|nulls| nulls.to_string()));
        let bytes = if column.partition { "-".into() } else { size(column.bytes) };
        vec![column.name, column.kind, known(column.min), known(column.max), nulls, bytes]
    });
    ui.table(&["COLUMN", "TYPE", "MIN", "MAX", "NULLS", "SIZE"], &rows.collect::<Vec<_>>())
}

fn cells(row: &str) -> Result<Vec<Value>, ErrorInfo> {
    serde_json::from_str(row)
        .map_err(|e| ErrorInfo::new(ErrorKind::Internal, format!("a row that is none: {e}")))
}

fn objects(head: &Rows) -> Result<Vec<serde_json::Map<String, Value>>, ErrorInfo> {
    let object = |row: &String| Ok(head.columns.iter().cloned().zip(cells(row)?).collect());
    head.rows.iter().map(object).collect()
}

fn shown(head: &Rows, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let mut rows = Vec::new();
    for row in &head.rows {
        let text = |cell: Value| match cell {
            Value::String(text) => text,
            Value::Null => "-".into(),
            other => other.to_string(),
        };
        rows.push(cells(row)?.into_iter().map(text).collect());
    }
    let names: Vec<&str> = head.columns.iter().map(String::as_str).collect();
    ui.table(&names, &rows)
}
