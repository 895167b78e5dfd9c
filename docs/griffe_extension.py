"""How mkdocstrings shows docstrings and classes: examples as code, and fields as the signature of their class."""

import re
from collections.abc import Iterator
from typing import Any

import griffe

# Lines from >>> to the next empty line. Those under Examples are indented: griffe formats them itself.
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Reference(griffe.Extension):
    """The extension, found by griffe in this file."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Makes a code block of each example that is not in a section."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Gives dataclasses, named tuples and Flax modules a signature in place of one entry for each field."""
        with_fields = [(cls, fields) for cls in classes(pkg) if (fields := fields_of(cls)) and not has_own_init(cls)]
        for cls, fields in with_fields:
            parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword), *map(parameter, fields)]
            init = griffe.Function("__init__", lineno=cls.lineno, endlineno=cls.endlineno, parameters=griffe.Parameters(*parameters))
            cls.set_member("__init__", init)
        for cls, fields in with_fields:
            _ = cls.docstring and cls.docstring.parsed  # cached: the types in its section Attributes are those of the fields
            for field in fields:
                if field.parent is cls and not field.docstring:
                    cls.del_member(field.name)


def classes(scope: griffe.Module | griffe.Class) -> Iterator[griffe.Class]:
    """The classes defined in a module, its submodules and classes, without those imported."""
    for member in list(scope.members.values()):
        if isinstance(member, griffe.Class):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from classes(member)


def fields_of(cls: griffe.Class) -> list[griffe.Attribute]:
    """Annotated attributes of a class and its bases but properties and ClassVars, in the order of the constructor."""
    if any("Protocol" in str(base) for base in cls.bases):
        return []
    fields = {}
    for owner in [*reversed(cls.mro()), cls]:
        members = [member for member in owner.members.values() if isinstance(member, griffe.Attribute) and member.annotation is not None]
        fields |= {member.name: member for member in members if "instance-attribute" in member.labels}
    return list(fields.values())


def has_own_init(cls: griffe.Class) -> bool:
    """Whether `__init__` is in the source; griffe gives one without lines to dataclasses."""
    return "__init__" in cls.members and bool(cls.members["__init__"].lineno)


def parameter(field: griffe.Attribute) -> griffe.Parameter:
    """The parameter of the constructor that sets `field`."""
    kind = griffe.ParameterKind.positional_or_keyword
    return griffe.Parameter(field.name, annotation=field.annotation, kind=kind, default=default_of(field.value))


def default_of(value: Any) -> Any:
    """`x` of a field `= x`, `= field(default_factory=x)`, or, in the config, `= option(x, ...)`."""
    if not isinstance(value, griffe.ExprCall) or str(value.function).rpartition(".")[2] not in ("field", "option"):
        return value
    argument = value.arguments[0]
    if not isinstance(argument, griffe.ExprKeyword):
        return argument
    return f"{argument.value}()" if argument.name == "default_factory" else argument.value if argument.name == "default" else None
