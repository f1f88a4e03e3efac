/*
 * proxy/compile/rest.c - fields that nobody reads: what a message says and its compiler does not
 * know is listed, so that nothing is dropped in silence.
 */
#include "proxy/compile/rest.h"

static bool is_known(const char *name, const char *const *known)
{
    for (; *known != NULL; known++) {
        if (strcmp(name, *known) == 0)
            return true;
    }
    return false;
}

/* Says something: an empty text, a zero and a false say nothing. */
static bool is_said(const ProtobufCFieldDescriptor *field, const void *message)
{
    const char *member = (const char *)message + field->offset;
    const char *quantifier = (const char *)message + field->quantifier_offset;
    bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)quantifier > 0;
    if (is_oneof && *(const uint32_t *)quantifier != field->id)
        return false;
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE: return *(void *const *)member != NULL;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)member;
        return text != NULL && text[0] != '\0';
    }
    case PROTOBUF_C_TYPE_BYTES: return ((const ProtobufCBinaryData *)member)->len > 0;
    case PROTOBUF_C_TYPE_BOOL: return *(const protobuf_c_boolean *)member;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return *(const uint64_t *)member != 0;
    default: return *(const uint32_t *)member != 0;
    }
}

void px_list_rest(struct px_build *build, const void *message, const char *const *known)
{
    const ProtobufCMessageDescriptor *type = ((const ProtobufCMessage *)message)->descriptor;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if (!is_known(field->name, known) && is_said(field, message))
            px_unhonoured(build, field->name);
    }
}
