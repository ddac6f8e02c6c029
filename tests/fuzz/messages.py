"""Any protobuf message, from its descriptor alone: sensible values, extreme ones, unknown fields, and broken bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

__all__ = ["messages", "wires"]

DEPTH = 4
FIELDS = 5
INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
SENSIBLE: dict[str, list[Any]] = {
    "custom_id": ["a", "b", "c"],
    "cancel": ["a", "b", "unknown"],
    "text": ["hi", "x" * 20_000],
    "raw_prompt": ["hi"],
    "model": ["", "m", "unknown"],
    "role": ["user", "assistant", "tool"],
    "tool_call_id": ["", "t"],
    "extra_json": ["{}", '{"top_k":1}', '{"n":2}', "[" * 200 + "]" * 200, '{"image_url":"http://b"}'],
    "tools_json": ["[]", '[{"server_url":"http://b"}]'],
    "response_format_json": ["{}", '{"type":"json_object"}'],
    "json": ['{"type":"text","text":"hi"}', "{}", "[]"],
    "name": ["backends/fake", "backends/", "jobs/a", "jobs/b", "jobs/"],
    "job_id": ["", "a", "b", "-"],
    "tenant": ["default", "acme", "x-" * 40],
    "paths": ["cap", "concurrency_enabled", "weight", "max_class", "requests_per_min", "tokens_per_min", "name"],
    "policy": ["", "hrrn", "lars", "edf", "fcfs", "sjf"],
    "page_token": ["", "1", "fake", "9" * 19],
    "max_tokens": [1, 16, 1_000_000],
    "cap": [1, 4, 100_000],
    "requests_per_min": [0, 1_000_000_000],
    "tokens_per_min": [0, 1_000_000_000_000],
    "weight": [1, 1_000],
    "seconds": [0, 1, 315_576_000_000],
    "n": [1],
}
"""What gets a message past the first check, by the field's name."""


_ids = st.integers(0, 10**9).map(str)
GOOD: dict[str, dict[str, st.SearchStrategy[Any] | None]] = {
    "Prompt": {"custom_id": _ids, "text": st.just("hi")},
    "GenerateRequest": {"prompt": None},
    "GenerateBatchRequest": {"prompts": None},
    "CollectBatchRequest": {"prompts": None},
    "CreateJobRequest": {"prompts": None},
    "StreamPromptsRequest": {"prompts": None},
    "GetBackendRequest": {"name": st.just("backends/fake")},
    "UpdateBackendRequest": {"backend": None, "update_mask": None},
    "Backend": {"name": st.just("backends/fake"), "cap": st.just(4)},
    "FieldMask": {"paths": st.sampled_from(["requests_per_min", "tokens_per_min"])},
    "UpdateTenantRequest": {"tenant": None, "update_mask": None},
    "Tenant": {"tenant": st.just("acme")},
    "SetPolicyRequest": {"policy": None},
    "Policy": {"policy": st.just("lars")},
}
"""What a request needs to be accepted; set in most messages, before anything else, and alone in half of the requests.
None: by its own type."""


def requests(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Messages of this type, half of them with nothing but what it needs: each further part may be wrong."""
    return accepted(descriptor) | messages(descriptor)


def accepted(descriptor: Descriptor, depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """Messages of this type with what it needs, as far as that is known, and nothing else."""
    make = message_factory.GetMessageClass(descriptor)

    @st.composite
    def draw(pick: Any) -> Message:
        message = make()
        for name, values in GOOD.get(descriptor.name, {}).items():
            field = descriptor.fields_by_name[name]
            of_message = accepted(field.message_type, depth - 1) if field.message_type is not None else None
            _set(pick, message, field, depth, of_message if values is None else values)
        return message

    return draw()


def messages(descriptor: Descriptor, depth: int = DEPTH) -> st.SearchStrategy[Any]:
    """Messages of this type; deeper than `depth` they are empty."""
    make = message_factory.GetMessageClass(descriptor)
    if depth == 0 or not descriptor.fields:
        return st.builds(make)
    good = [descriptor.fields_by_name[name] for name in GOOD.get(descriptor.name, {})]
    some: st.SearchStrategy[list[FieldDescriptor]] = st.just([]) | st.lists(
        st.sampled_from(list(descriptor.fields)), max_size=FIELDS, unique_by=lambda field: field.number
    )

    @st.composite
    def draw(pick: Any) -> Message:
        message = make()
        if good and pick(st.integers(0, 3)):
            for field in good:
                _set(pick, message, field, depth, GOOD[descriptor.name][field.name])
        for field in pick(some):
            _set(pick, message, field, depth)
        return message

    return draw()


def _set(
    pick: Any,
    message: Message,
    field: FieldDescriptor,
    depth: int,
    good: st.SearchStrategy[Any] | None = None,
) -> None:
    values = _values(field, depth) if good is None else good
    if not field.is_repeated:
        value = pick(values)
        if field.message_type is not None:
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return  # only in answers
    getattr(message, field.name).extend(
        pick(st.lists(values, min_size=int(field.name in GOOD.get(message.DESCRIPTOR.name, ())), max_size=4))
    )


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth - 1)
    sensible = SENSIBLE.get(field.name)
    wild = _wild(field)
    return wild if sensible is None else st.sampled_from(sensible) | st.sampled_from(sensible) | wild


def _wild(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values]) | st.sampled_from(
            [-1, 99, 2**31 - 1]
        )
    if field.cpp_type in INTEGERS:
        low, high = INTEGERS[field.cpp_type]
        return st.sampled_from([low, -1 if low else 0, 0, 1, high]) | st.integers(low, high)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = st.text(max_size=20) | st.sampled_from(["", "\0", "é" * 200, "\U0010ffff", "x" * 300])
        return text if field.type == FieldDescriptor.TYPE_STRING else text.map(str.encode)
    return st.floats(width=32 if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else 64) | st.sampled_from(
        [0.0, 0.5, 1.0, -0.0]
    )


def wires(descriptor: Descriptor) -> st.SearchStrategy[bytes]:
    """Bytes for a message of this type: as it is, with unknown fields, cut, with a byte changed, or any at all."""

    def spoil(parts: tuple[Any, bytes, int, int]) -> bytes:
        message, rest, kind, at = parts
        wire: bytes = message.SerializeToString()
        match kind:
            case 0:
                return wire + rest
            case 1:
                return wire[: at % (len(wire) + 1)]
            case 2 if wire:
                place = at % len(wire)
                return wire[:place] + bytes([(wire[place] + 1 + at) % 256]) + wire[place + 1 :]
            case 3:
                return rest
        return wire

    unknown = (
        st.sampled_from([b"", b"\xfa\x3e\x03abc", b"\xf8\x3e\x01", b"\x0a\x01x\x0a", b"\x0d\0\0\0\0"]) | st.binary()
    )
    return st.tuples(requests(descriptor), unknown, st.integers(0, 9), st.integers(0, 10_000)).map(spoil)
