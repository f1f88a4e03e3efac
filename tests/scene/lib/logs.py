"""Access logs of a listener under test."""
from lib.proxy import typed


def log_to(path, **log_format):
    return {"name": "envoy.access_loggers.file",
            "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(path), log_format=log_format)}


def text(line):
    return {"text_format_source": {"inline_string": line}}
