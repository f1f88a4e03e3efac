/*
 * wire/pb_time.h - google.protobuf.Duration and Timestamp: their JSON forms and nanoseconds.
 */
#ifndef LT_WIRE_PB_TIME_H
#define LT_WIRE_PB_TIME_H

#include "base/str.h"
#include "wire/proto/google.pb-c.h"

enum { LT_PB_TIME_TEXT = 40 };

/* "1.5s", up to nine digits behind the point, within ±10000 years. LT_E_BAD otherwise. */
LT_MUST lt_rc lt_pb_duration_parse(lt_str text, Pb__Duration *ret_duration);
/* With 0, 3, 6 or 9 digits behind the point. Returns the length. */
size_t lt_pb_duration_format(const Pb__Duration *duration, char out[LT_PB_TIME_TEXT]);
/* NULL is `when_absent_ns`. What doesn't fit into int64 is the nearest that does. */
int64_t lt_pb_duration_ns(const Pb__Duration *duration, int64_t when_absent_ns);

/* RFC 3339 with "Z" or an offset, years 1 to 9999. LT_E_BAD otherwise. */
LT_MUST lt_rc lt_pb_timestamp_parse(lt_str text, Pb__Timestamp *ret_timestamp);
/* "2026-08-01T09:30:00.123Z" with 0, 3, 6 or 9 digits. Returns the length; 0 when the value is out
 * of range. */
size_t lt_pb_timestamp_format(const Pb__Timestamp *timestamp, char out[LT_PB_TIME_TEXT]);

#endif
