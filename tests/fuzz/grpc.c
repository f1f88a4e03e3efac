/*
 * tests/fuzz/grpc.c - aims at lt_grpc_reader_next, lt_grpc_message_encode and _decode,
 * lt_grpc_timeout_parse and _format, lt_grpc_status_parse, lt_grpc_is_content_type, lt_grpc_prefix.
 * First byte: the size of the pieces. The same bytes whole and in pieces must give the same messages
 * and the same end; what is framed comes out again.
 */
#include <stdlib.h>

#include "http/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_MAX = 5000 };

struct outcome {
    uint64_t hash; /* of all messages */
    size_t count;
    lt_rc rc;
    bool is_partial;
};

static struct outcome read_in_pieces(lt_str bytes, size_t piece_bytes)
{
    struct lt_grpc_reader reader;
    struct outcome outcome = {.rc = LT_AGAIN};
    lt_grpc_reader_init(&reader, MESSAGE_MAX);
    while (bytes.len > 0 && outcome.rc == LT_AGAIN) {
        lt_str piece = lt_str_slice(bytes, 0, piece_bytes), message;
        bytes = lt_str_from(bytes, piece.len);
        while ((outcome.rc = lt_grpc_reader_next(&reader, &piece, &message)) == LT_OK) {
            outcome.hash = lt_hash64(message.ptr, message.len, outcome.hash);
            outcome.count++;
        }
        LT_ASSERT(outcome.rc != LT_AGAIN || piece.len == 0);
    }
    outcome.is_partial = lt_grpc_reader_is_partial(&reader);
    lt_grpc_reader_fini(&reader);
    return outcome;
}

static void check_message_text(lt_str text)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_buf buf;
    lt_buf_init(&buf, 1 << 20);
    if (lt_grpc_message_encode(text, &buf) == LT_OK)
        LT_ASSERT(lt_str_eq(lt_grpc_message_decode(arena, lt_buf_str(&buf)), text));
    LT_ASSERT(lt_grpc_message_decode(arena, text).len <= text.len);
    lt_buf_fini(&buf);
    lt_arena_free(&arena);
}

static void check_timeout(lt_str text)
{
    char out[LT_GRPC_TIMEOUT_TEXT_MAX];
    uint64_t ns = 0, again = 0;
    if (lt_grpc_timeout_parse(text, &ns) != LT_OK)
        return;
    LT_ASSERT(lt_grpc_timeout_parse(lt_grpc_timeout_format(ns, out), &again) == LT_OK);
    LT_ASSERT(again >= ns || ns > 99999999ull * 3600000000000ull);
}

static void check_fields(lt_str text)
{
    uint32_t code = 0;
    if (lt_grpc_status_parse(text, &code) == LT_OK)
        LT_ASSERT(lt_grpc_code_name(code) != NULL);
    if (lt_grpc_is_content_type(text))
        LT_ASSERT(text.len >= strlen("application/grpc"));
}

/* A message of these bytes, and the first half of another. */
static void check_framing(lt_str text)
{
    struct lt_grpc_reader reader;
    struct lt_buf buf;
    char prefix[LT_GRPC_PREFIX_BYTES];
    lt_buf_init(&buf, 2 << 20);
    lt_grpc_prefix(text.len, prefix);
    lt_buf_add(&buf, lt_str_make(prefix, sizeof(prefix)));
    lt_buf_add(&buf, text);
    lt_buf_add(&buf, lt_str_make(prefix, sizeof(prefix)));
    lt_str rest = lt_buf_str(&buf), message;
    lt_grpc_reader_init(&reader, 1 << 20);
    LT_ASSERT(lt_grpc_reader_next(&reader, &rest, &message) == LT_OK && lt_str_eq(message, text));
    lt_rc rc = lt_grpc_reader_next(&reader, &rest, &message);
    LT_ASSERT(rc == (text.len == 0 ? LT_OK : LT_AGAIN) && rest.len == 0);
    LT_ASSERT(lt_grpc_reader_is_partial(&reader) == (text.len > 0));
    lt_grpc_reader_fini(&reader);
    lt_buf_fini(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    lt_str bytes = lt_str_make(data + 1, size - 1);
    struct outcome whole = read_in_pieces(bytes, SIZE_MAX),
                   pieces = read_in_pieces(bytes, 1 + data[0] % 64);
    LT_ASSERT(whole.rc == pieces.rc && whole.count == pieces.count && whole.hash == pieces.hash);
    LT_ASSERT(whole.rc != LT_AGAIN || whole.is_partial == pieces.is_partial);
    check_message_text(bytes);
    check_timeout(bytes);
    check_fields(bytes);
    check_framing(bytes);
    return 0;
}
