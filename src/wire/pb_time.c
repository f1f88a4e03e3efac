/*
 * wire/pb_time.c - Duration and Timestamp as protojson writes them.
 */
#include "wire/pb_time.h"

#include <stdio.h>

enum { NS_PER_S = 1000000000 };

#define DURATION_SECONDS_MAX INT64_C(315576000000)  /* 10000 years, duration.proto */
#define TIMESTAMP_SECONDS_MIN INT64_C(-62135596800) /* 0001-01-01T00:00:00Z, timestamp.proto */
#define TIMESTAMP_SECONDS_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

/* One to nine digits, as nanoseconds. */
static bool parse_fraction(lt_str digits, int32_t *ret_nanos)
{
    uint64_t value = 0;
    if (digits.len > 9 || lt_str_to_u64(digits, &value) != LT_OK)
        return false;
    for (size_t i = digits.len; i < 9; i++)
        value *= 10;
    *ret_nanos = (int32_t)value;
    return true;
}

lt_rc lt_pb_duration_parse(lt_str text, Pb__Duration *ret_duration)
{
    bool is_negative = lt_str_starts(text, LT_STR("-"));
    uint64_t seconds = 0;
    int32_t nanos = 0;
    if (!lt_str_ends(text, LT_STR("s")))
        return LT_E_BAD;
    text = lt_str_slice(text, is_negative ? 1 : 0, text.len - 1);
    ptrdiff_t point = lt_str_find_char(text, '.');
    if (point >= 0 && !parse_fraction(lt_str_from(text, (size_t)point + 1), &nanos))
        return LT_E_BAD;
    lt_str whole = point >= 0 ? lt_str_slice(text, 0, (size_t)point) : text;
    if (lt_str_to_u64(whole, &seconds) != LT_OK || seconds > DURATION_SECONDS_MAX)
        return LT_E_BAD;
    ret_duration->seconds = is_negative ? -(int64_t)seconds : (int64_t)seconds;
    ret_duration->nanos = is_negative ? -nanos : nanos;
    ret_duration->has_seconds = ret_duration->seconds != 0;
    ret_duration->has_nanos = nanos != 0;
    return LT_OK;
}

/* ".123", ".123456", ".123456789" or nothing. */
static size_t format_fraction(uint32_t nanos, char *out, size_t size)
{
    if (nanos == 0)
        return 0;
    if (nanos % 1000000 == 0)
        return (size_t)snprintf(out, size, ".%03u", nanos / 1000000);
    if (nanos % 1000 == 0)
        return (size_t)snprintf(out, size, ".%06u", nanos / 1000);
    return (size_t)snprintf(out, size, ".%09u", nanos);
}

size_t lt_pb_duration_format(const Pb__Duration *duration, char out[LT_PB_TIME_TEXT])
{
    bool is_negative = duration->seconds < 0 || duration->nanos < 0;
    uint64_t seconds = duration->seconds < 0 ? 0 - (uint64_t)duration->seconds
                                             : (uint64_t)duration->seconds;
    uint32_t nanos = duration->nanos < 0 ? 0 - (uint32_t)duration->nanos
                                         : (uint32_t)duration->nanos;
    size_t len = (size_t)snprintf(out, LT_PB_TIME_TEXT, "%s%llu", is_negative ? "-" : "",
                                  (unsigned long long)seconds);
    len += format_fraction(nanos % NS_PER_S, out + len, LT_PB_TIME_TEXT - len);
    out[len++] = 's';
    out[len] = '\0';
    return len;
}

int64_t lt_pb_duration_ns(const Pb__Duration *duration, int64_t when_absent_ns)
{
    int64_t ns = 0;
    if (duration == NULL)
        return when_absent_ns;
    if (__builtin_mul_overflow(duration->seconds, (int64_t)NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, (int64_t)duration->nanos, &ns))
        return duration->seconds < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

/* --- timestamps: days of the proleptic Gregorian calendar, counted from 1970-01-01 in eras of 400
 * years --- */

static int64_t days_of_date(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned year_of_era = (unsigned)(year - era * 400);
    unsigned day_of_year = (153 * (month + (month > 2 ? -3u : 9u)) + 2) / 5 + day - 1;
    return era * 146097 +
           (int64_t)(year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year) -
           719468;
}

static void date_of_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned day_of_era = (unsigned)(days - era * 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (5 * day_of_year + 2) / 153;
    *ret_day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *ret_month = shifted < 10 ? shifted + 3 : shifted - 9;
    *ret_year = era * 400 + year_of_era + (*ret_month <= 2);
}

/* `count` digits and, when it isn't NUL, the character behind them. */
static bool take_digits(lt_str *text, size_t count, char behind, unsigned *ret_value)
{
    uint64_t value = 0;
    size_t used = count + (behind != '\0');
    if (text->len < used || lt_str_to_u64(lt_str_slice(*text, 0, count), &value) != LT_OK)
        return false;
    if (behind != '\0' && text->ptr[count] != behind && text->ptr[count] != (behind | 0x20))
        return false;
    *text = lt_str_from(*text, used);
    *ret_value = (unsigned)value;
    return true;
}

/* "Z", "+02:00"; seconds east. */
static bool parse_offset(lt_str text, int64_t *ret_seconds)
{
    unsigned hours = 0, minutes = 0;
    *ret_seconds = 0;
    if (lt_str_eqz(text, "Z") || lt_str_eqz(text, "z"))
        return true;
    bool is_west = lt_str_starts(text, LT_STR("-"));
    if (!is_west && !lt_str_starts(text, LT_STR("+")))
        return false;
    text = lt_str_from(text, 1);
    if (!take_digits(&text, 2, ':', &hours) || !take_digits(&text, 2, '\0', &minutes) ||
        text.len > 0 || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = (int64_t)(hours * 3600 + minutes * 60) * (is_west ? -1 : 1);
    return true;
}

lt_rc lt_pb_timestamp_parse(lt_str text, Pb__Timestamp *ret_timestamp)
{
    unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, real_month = 0,
             real_day = 0;
    int32_t nanos = 0;
    int64_t offset = 0, real_year = 0;
    if (!take_digits(&text, 4, '-', &year) || !take_digits(&text, 2, '-', &month) ||
        !take_digits(&text, 2, 'T', &day) || !take_digits(&text, 2, ':', &hour) ||
        !take_digits(&text, 2, ':', &minute) || !take_digits(&text, 2, '\0', &second))
        return LT_E_BAD;
    if (month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59)
        return LT_E_BAD;
    if (lt_str_starts(text, LT_STR("."))) {
        size_t len = 1;
        while (len < text.len && text.ptr[len] >= '0' && text.ptr[len] <= '9')
            len++;
        if (!parse_fraction(lt_str_slice(text, 1, len), &nanos))
            return LT_E_BAD;
        text = lt_str_from(text, len);
    }
    int64_t days = days_of_date(year, month, day);
    date_of_days(days, &real_year, &real_month, &real_day);
    if (!parse_offset(text, &offset) || real_day != day) /* no 31st of June */
        return LT_E_BAD;
    int64_t seconds = days * 86400 + (int64_t)(hour * 3600 + minute * 60 + second) - offset;
    if (seconds < TIMESTAMP_SECONDS_MIN || seconds > TIMESTAMP_SECONDS_MAX)
        return LT_E_BAD;
    ret_timestamp->seconds = seconds;
    ret_timestamp->nanos = nanos;
    ret_timestamp->has_seconds = seconds != 0;
    ret_timestamp->has_nanos = nanos != 0;
    return LT_OK;
}

size_t lt_pb_timestamp_format(const Pb__Timestamp *timestamp, char out[LT_PB_TIME_TEXT])
{
    int64_t seconds = timestamp->seconds, year = 0;
    unsigned month = 0, day = 0;
    out[0] = '\0';
    if (seconds < TIMESTAMP_SECONDS_MIN || seconds > TIMESTAMP_SECONDS_MAX ||
        timestamp->nanos < 0 || timestamp->nanos >= NS_PER_S)
        return 0;
    int64_t days = (seconds >= 0 ? seconds : seconds - 86399) / 86400;
    unsigned left = (unsigned)(seconds - days * 86400);
    date_of_days(days, &year, &month, &day);
    size_t len = (size_t)snprintf(out, LT_PB_TIME_TEXT, "%04d-%02u-%02uT%02u:%02u:%02u", (int)year,
                                  month, day, left / 3600, left / 60 % 60, left % 60);
    len += format_fraction((uint32_t)timestamp->nanos, out + len, LT_PB_TIME_TEXT - len);
    out[len++] = 'Z';
    out[len] = '\0';
    return len;
}
