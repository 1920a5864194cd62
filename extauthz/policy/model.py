"""The policy language as a person writes it: YAML into checked models, and their JSON Schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from extauthz.document import Model
from extauthz.policy import hosts
from extauthz.request.faults import TOLERABLE, Fault

SOURCE_SYNTAX = (
    "A literal, or a source: `path:VARIABLE`, `host:LABEL`, `query:NAME`, `header:NAME`, `body:/POINTER`, "
    "`claim:NAME`, `key:KIND:SOURCE` (the namespace that an object's key names), `lookup:KIND:SOURCE` (the namespace "
    "that the object with that id belongs to), `lookup:KIND.name:SOURCE` (its name). "
    "Braces behind a member of the body go through a list: `body:/items{}/id` is every element, "
    "`body:/items{key/type=NAMESPACE|5,relationship=OWNER|1}/key/id` those whose members have one of these values, "
    "an enum's name or number; all elements that fit must agree. "
    "`query:ref.id{ref.type=NAMESPACE|5}` is a parameter that counts only where another one has one of these values. "
    "`value:NAME` is one of the file's `values`. "
    "A trailing `?` makes a source optional."
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=128)]
Source = Annotated[
    str,
    Field(
        min_length=1,
        description=SOURCE_SYNTAX,
        examples=["path:namespace", "query:namespace?", "body:/namespace", "lookup:run:path:run_id"],
    ),
]
Text = Annotated[str, Field(min_length=1)]
ValueName = Annotated[str, Field(pattern=r"^value:[a-z0-9][a-z0-9.-]*$")]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Host = Annotated[str, Field(pattern=hosts.PATTERN)]
HEADER_NAME = r"^[a-z0-9][a-z0-9-]*$"
COOKIE_NAME = r"^[A-Za-z0-9_.-]+$"
HeaderName = Annotated[str, Field(pattern=HEADER_NAME, max_length=64)]
CookieName = Annotated[str, Field(pattern=COOKIE_NAME, max_length=64)]
Prefix = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")]


def _tolerable(fault: Fault) -> Fault:
    if fault not in TOLERABLE:
        raise ValueError(f"{fault.value!r} can never be tolerated; these can: {', '.join(sorted(TOLERABLE))}")
    return fault


Tolerable = Annotated[
    Fault,
    Field(strict=False, json_schema_extra={"enum": sorted(TOLERABLE)}),
    AfterValidator(_tolerable),
]


class MatchModel(Model):
    """Which requests a rule decides."""

    path: Annotated[
        str, Field(pattern="^/", examples=["/apis/v2beta1/runs/{run_id}:archive", "/notebook/{ns}/{rest...}"])
    ]
    """A template: `{name}` is one segment, `{name}:verb` one with a fixed end, a last `{name...}` all the rest."""
    methods: Annotated[list[Method], Field(min_length=1)] | None = None
    """The methods; unset means every method. GET decides HEAD too."""
    hosts: Annotated[list[Host], Field(min_length=1, examples=[["{name}.{namespace}.example.com"]])] | None = None
    """Host names without a port, `*.` and a domain, or one with labels in braces, `{name}.{namespace}.example.com`;
    unset means the hosts that the settings name, or every host."""


class Check(Model):
    """One right that the caller must have: an API resource, or with `path` a non-resource URL."""

    verb: Source
    """The verb, such as `get`, `list` or `create`."""
    group: str = ""
    """The API group; empty is the core group."""
    version: str = ""
    """The API version. RBAC does not look at it; webhooks may."""
    resource: Source | None = None
    """The resource, in plural, such as `runs`."""
    subresource: str = ""
    """The subresource, such as `log`."""
    namespace: Source | Annotated[list[Source], Field(min_length=1)] | None = None
    """Where the namespace comes from. Several sources must agree. Unset reviews a right in all namespaces."""
    absent_namespace: Source = "refuse"
    """What no namespace means: `refuse`, `all-namespaces`, a namespace to review instead, for get and list
    `authenticated`, which asks for no right, or for list `shared-objects`: what belongs to nobody, where the API
    that is asked lists nothing else."""
    shared_namespace: Source = "refuse"
    """What it takes where the object belongs to nobody: `refuse`, a namespace to review instead, or for get and
    list `authenticated`, which asks for no right."""
    name: Source | None = None
    """The object's name; unset reviews a right on all names."""
    path: Source | None = None
    """A non-resource URL path, such as `/metrics`."""
    if_present: Source | None = None
    """Ask for this right only where the request has a value here."""
    unless: Annotated[list[str], Field(min_length=1)] | None = None
    """Values of `ifPresent` for which this right is not asked for."""
    if_absent: Source | None = None
    """Ask for this right only where the request has no value here."""

    @model_validator(mode="after")
    def _one_kind(self) -> Check:
        namespace_fields = {"namespace", "absent_namespace", "shared_namespace"}
        resource_fields = {"group", "version", "resource", "subresource", "name"} | namespace_fields
        if self.path is not None and self.model_fields_set & resource_fields:
            raise ValueError("a check with path is a non-resource check and takes only verb and ifPresent beside it")
        if self.path is None and self.resource is None:
            raise ValueError("a check needs resource, or path for a non-resource URL")
        if self.namespace is None and "absent_namespace" in self.model_fields_set:
            raise ValueError("absentNamespace needs namespace")
        if self.unless is not None and self.if_present is None:
            raise ValueError("unless needs ifPresent")
        if self.absent_namespace == "shared-objects" and self.shared_namespace == "refuse":
            raise ValueError("absentNamespace: shared-objects needs sharedNamespace")
        if "shared_namespace" in self.model_fields_set and not self._looks_up():
            raise ValueError("sharedNamespace needs a namespace that is looked up")
        return self

    def _looks_up(self) -> bool:
        texts = self.namespace if isinstance(self.namespace, list) else [self.namespace or ""]
        return self.absent_namespace == "shared-objects" or any(text.startswith("lookup:") for text in texts)


class RequirementModel(Model):
    """A value that decides nothing, but of which only some are served: exactly one of `oneOf` and `matches`."""

    source: Source
    """Where the value is; with a trailing `?` it may be left out."""
    one_of: Annotated[list[str], Field(min_length=1)] | ValueName | None = None
    """The values that are served, or `value:NAME` for a list among the file's `values`."""
    matches: Annotated[str, Field(min_length=1, max_length=256, json_schema_extra={"format": "regex"})] | None = None
    """A regular expression for the whole value."""

    @model_validator(mode="after")
    def _exactly_one(self) -> RequirementModel:
        if (self.one_of is None) == (self.matches is None):
            raise ValueError("a requirement needs exactly one of oneOf and matches")
        return self


class RuleModel(Model):
    """One rule: which requests, and exactly one of `allow`, `access` and `deny`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "runs-list",
                    "match": {"methods": ["GET"], "path": "/apis/v2beta1/runs"},
                    "access": [
                        {
                            "verb": "list",
                            "group": "pipelines.kubeflow.org",
                            "resource": "runs",
                            "namespace": "query:namespace",
                        }
                    ],
                },
                {"name": "health", "match": {"path": "/healthz"}, "allow": "public"},
            ]
        }
    )

    name: Name
    """Unique; it stands in refusals, logs and `extauthz check`."""
    description: str = ""
    """Why the rule is there, for people."""
    match: MatchModel
    """Which requests the rule decides."""
    allow: Literal["public", "authenticated"] | None = None
    """`public` asks for nothing, `authenticated` for a verified identity only."""
    access: Annotated[list[Check], Field(min_length=1)] | None = None
    """The rights the caller must have, all of them."""
    deny: Annotated[str, Field(min_length=1)] | None = None
    """Refuse always; the text tells the caller why."""
    forbid: list[Source] = []
    """Sources that the request must leave out or empty."""
    require: list[RequirementModel] = []
    """Values that the request must have, beside those that the rights are read from."""
    when: Annotated[str, Field(min_length=1, max_length=1024, examples=['"ml-ops" in identity.groups'])] | None = None
    """A condition in CEL that must be true as well, else the request is refused. It reads `request.method`,
    `request.path`, `request.host`, `request.headers["name"]`, `request.query["name"]`, `path.VARIABLE`, `host.LABEL`,
    `identity.user`, `identity.groups`, `identity.uid`, `identity.authenticator` and `claims.NAME`. What cannot be
    evaluated is refused; it never makes another rule decide."""
    tolerate: list[Tolerable] = []
    """Ambiguities to let pass in the query and in the part of the path that `{name...}` matches."""
    remove_headers: list[HeaderName] | ValueName = []
    """Headers that the upstream must not see, in lower case, such as `authorization` before a user's own pod."""
    remove_cookies: list[CookieName] | ValueName = []
    """Cookies that the upstream must not see, by the start of their names; the others are passed on.

    Where any is named, those of `identity.session.cookie` in the settings are kept back, too."""
    enforce: Literal["enforce", "shadow"] = "enforce"
    """`shadow` refuses nothing for lack of rights or by `when` or `deny`, and logs what it would have refused: the
    request is decided as if the rule were not there, by the rule that it stands beside or above, or passes where there
    is none. Identity is still required."""

    @model_validator(mode="after")
    def _one_answer(self) -> RuleModel:
        if sum(answer is not None for answer in (self.allow, self.access, self.deny)) != 1:
            raise ValueError(f"rule {self.name!r} needs exactly one of allow, access and deny")
        if self.deny and self.when:
            raise ValueError(f"rule {self.name!r} refuses always; when has no place beside deny")
        if self.access and not self._always_asks(self.access):
            raise ValueError(f"rule {self.name!r} needs a right that is asked for always, without ifPresent")
        return self

    def _always_asks(self, access: list[Check]) -> bool:
        """Whether some right is asked for whatever the request holds."""
        present = {check.if_present for check in access if not check.unless and not check.if_absent}
        return any(check.if_present is None and check.if_absent in {None, *present} for check in access)


class PolicyModel(Model):
    """One policy file."""

    api_version: Literal["extauthz.dev/v1"]
    """The version of the policy language."""
    kind: Literal["Policy"]
    """What the file holds."""
    placements: dict[Name, Prefix | Annotated[list[Prefix], Field(min_length=1)]] | None = None
    """At which places of the mesh the file counts, and what stands there before the paths of its rules: one prefix, or
    several. The settings say which place is guarded. Unset: everywhere, with paths as they are written."""
    review_as: Literal["subject", "user"] | ValueName = "subject"
    """`user` asks for rights by the user's name alone, without groups, as Kubeflow Pipelines itself does."""
    values: dict[Name, Text | Annotated[list[Text], Field(min_length=1)]] = {}
    """What differs from one installation to the next: a text or a list of texts by name, for `value:NAME`. The
    settings' `policy.values` may say otherwise."""
    rules: list[RuleModel]
    """The rules, in any order: the most specific one decides."""


class ShadowModel(Model):
    """What of the whole policy is in shadow: it refuses nothing for lack of rights, and logs what it would have."""

    api_version: Literal["extauthz.dev/v1"]
    """The version of the policy language."""
    kind: Literal["Shadow"]
    """What the file holds."""
    everything: bool = False
    """Every rule is in shadow: only for the time in which a platform is moved to extauthz."""
    namespaces: list[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", examples=["team-a"])]] = []
    """Namespaces in which nothing is refused for lack of rights."""

    @model_validator(mode="after")
    def _something(self) -> ShadowModel:
        if self.everything == bool(self.namespaces):
            raise ValueError("a Shadow needs exactly one of everything: true and namespaces")
        return self
