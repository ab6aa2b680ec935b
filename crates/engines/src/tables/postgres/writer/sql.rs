//! The writer's own statements.

use crate::tables::postgres::plan::{BAD, BASE, quote, tell};

/// Refused batches end the group only when no batch is left: the division fails then, and with it the transaction.
pub(super) const GATE: &str = "SELECT 1 / ($1::int4 - cardinality(current_setting('hilum.bad')::int4[]))";

/// As text, with the schema's name in them.
pub(super) struct Sql {
    pub(super) take: String,
    pub(super) offsets: String,
    pub(super) move_offsets: String,
    pub(super) outbox: String,
    pub(super) sign: String,
    pub(super) register: String,
    pub(super) unregister: String,
    pub(super) fence: String,
    pub(super) ask: String,
}

impl Sql {
    pub(super) fn new(schema: &str) -> Self {
        let s = quote(schema);
        Self {
            // Its lock is held until the commit: who comes later has a later moment, and is seen later.
            take: format!(
                "WITH taken AS (UPDATE {s}.hilum_counter SET t = t + $1::int4, \
                 moment = greatest(moment, $2::int8 - 1) + $1::int4 \
                 RETURNING t - $1::int4 AS base, moment - $1::int4 AS moment) \
                 SELECT base, set_config('hilum.base', base::text, true), set_config('hilum.bad', '{{}}', true), \
                 set_config('hilum.moment', moment::text, true) FROM taken"
            ),
            offsets: format!(
                "WITH broken AS MATERIALIZED (SELECT m.b, CASE WHEN o.epoch <> m.epoch THEN o.epoch END AS other FROM unnest($1::int4[], $2::text[], \
                 $3::text[], $4::int4[], $5::uuid[], $6::int8[]) AS m(b, projection, stream, part, epoch, here) \
                 LEFT JOIN {s}.hilum_offset AS o ON o.projection = m.projection AND o.stream = m.stream \
                 AND o.part = m.part \
                 WHERE coalesce(o.epoch, m.epoch) <> m.epoch OR coalesce(o.next, 0) <> m.here), {}",
                tell("b, other")
            ),
            move_offsets: format!(
                "INSERT INTO {s}.hilum_offset (projection, stream, part, epoch, next, last) \
                 SELECT m.projection, m.stream, m.part, m.epoch, m.next, m.last FROM unnest($1::int4[], $2::text[], \
                 $3::text[], $4::int4[], $5::uuid[], $6::int8[], $7::uuid[]) \
                 AS m(b, projection, stream, part, epoch, next, last) \
                 WHERE m.b <> ALL ({BAD}) ON CONFLICT (projection, stream, part) \
                 DO UPDATE SET epoch = excluded.epoch, next = excluded.next, last = excluded.last"
            ),
            outbox: format!(
                "INSERT INTO {s}.hilum_outbox (t, n, topic, key, body) \
                 SELECT {BASE} + o.b, o.n, o.topic, o.key, o.body FROM unnest($1::int4[], $2::int8[], \
                 $3::text[], $4::uuid[], $5::bytea[]) AS o(b, n, topic, key, body) WHERE o.b <> ALL ({BAD})"
            ),
            // No row = this flight was given up: the division fails and the late flight with it.
            sign: format!(
                "WITH signed AS (UPDATE {s}.hilum_writer SET seq = $2::int8, base = {BASE}, bad = {BAD}, \
                 seen = now() WHERE writer = $1::uuid AND seq = $2::int8 - 1 RETURNING 1) \
                 SELECT 1 / count(*) FROM signed"
            ),
            register: format!(
                "WITH old AS (DELETE FROM {s}.hilum_writer WHERE seen < now() - interval '30 days') \
                 INSERT INTO {s}.hilum_writer (writer, seq) VALUES (gen_random_uuid(), 0) RETURNING writer"
            ),
            unregister: format!("DELETE FROM {s}.hilum_writer WHERE writer = $1::uuid"),
            fence: format!(
                "UPDATE {s}.hilum_writer SET seq = $2::int8, base = NULL, bad = NULL, seen = now() \
                 WHERE writer = $1::uuid AND seq = $2::int8 - 1 RETURNING seq"
            ),
            ask: format!("SELECT seq, base, bad FROM {s}.hilum_writer WHERE writer = $1::uuid"),
        }
    }
}
