"""Names that a recipe takes from the registers, looked up when it is checked, as plug-ins register names later."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from stml_tf import registry
from stml_tf.errors import did_you_mean


class OneOf:
    """A constraint to one of the names that a function returns, or to any with a prefix.

    Args:
        names: Returns the names that are currently allowed.
        prefix: A prefix; every longer name that begins with it is allowed, too.
        prefixed: What follows the prefix, in words.
    """

    def __init__(self, names: Callable[[], Iterable[str]], *, prefix: str | None = None, prefixed: str = "") -> None:
        self.names = names
        self.prefix = prefix
        self.prefixed = prefixed

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        names = {"enum": list(self.names())}
        if self.prefix is None:
            return {"type": "string", **names}
        return {"anyOf": [names, {"type": "string", "pattern": f"^{self.prefix}.+$"}]}

    def _check(self, name: str) -> str:
        names = list(self.names())
        if name in names or (self.prefix and name.startswith(self.prefix) and name != self.prefix):
            return name
        if self.prefix is None:
            raise PydanticCustomError("name", "not a name that is registered")  # the schema says which are
        prefixed = f'"{self.prefix}" and {self.prefixed}'
        raise ValueError(f"allowed: {', '.join(names)}, or {prefixed}{did_you_mean(name, names)}")


BackboneName = Annotated[str, OneOf(lambda: registry.backbones)]
OptimizerName = Annotated[str, OneOf(lambda: registry.optimizers)]
MethodName = Annotated[str, OneOf(lambda: registry.methods)]
LossName = Annotated[
    str,
    OneOf(
        lambda: registry.losses,
        prefix=registry.ADDONS_PREFIX,
        prefixed="the name of a loss in tensorflow_addons.losses",
    ),
]
UnlabeledName = Annotated[
    str, OneOf(lambda: (name for name, source in registry.sources.items() if source.only_unlabeled))
]
