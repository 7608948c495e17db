"""
LiteLLM's fields that we do not have, with LiteLLM's defaults: one table a request type.

Null and the default are accepted; anything else is refused, since it would not be obeyed. Whoever
builds one of these takes its line out here and adds a field to the request type.
"""

from typing import Final

from budgets.api.endpoints import Defaults

_BUDGET: Final[Defaults] = {
    "tpd_limit": None,
}
_INCREASE: Final[Defaults] = {"temp_budget_expiry": None, "temp_budget_increase": None}
_MODEL_RATES: Final[Defaults] = {
    "default_estimated_output_tokens": None,
    "default_estimated_output_tokens_per_model": {},
    "mcp_rpm_limit": {},
}
_GUARDS: Final[Defaults] = {
    "access_group_ids": [],
    "allowed_passthrough_routes": [],
    "allowed_vector_store_indexes": [],
    "denied_passthrough_routes": [],
    "disable_global_guardrails": False,
    "guardrails": [],
    "object_permission": None,
    "policies": [],
    "prompts": [],
    "router_settings": None,
    "rpm_limit_type": None,
    "tags": [],
    "tpm_limit_type": None,
}
_OF_KEY: Final[Defaults] = {
    **_BUDGET,
    **_MODEL_RATES,
    **_GUARDS,
    "agent_id": None,
    "aliases": {},
    "allowed_cache_controls": [],
    "allowed_routes": [],
    "auto_rotate": False,
    "budget_fallbacks": {},
    "config": {},
    "enable_prompt_caching": False,
    "end_user_budget_id": None,
    "enforced_params": [],
    "key_type": "default",
    "permissions": {},
    "project_id": None,
    "rotation_interval": None,
    "send_invite_email": False,
    "soft_budget_cooldown": False,
    "tag_rpm_limit": {},
    "throttle_on_budget_exceeded": False,
}

GENERATE_KEY: Final[Defaults] = {**_OF_KEY, "spend": 0}
# To set the spend of a key that has spent would be a reset, even to 0.
UPDATE_KEY: Final[Defaults] = {**_OF_KEY, "spend": None}
REGENERATE_KEY: Final[Defaults] = {**UPDATE_KEY, "grace_period": None, "new_master_key": None}
LIST_KEYS: Final[Defaults] = {
    "access_group_id": "",
    "agent_id": "",
    "expand": "",
    "expires": "",
    "include_created_by_keys": "false",
    "include_team_keys": "false",
    "project_id": "",
    "search": "",
    "sort_by": "",
    "sort_order": "desc",
    "status": "",
    "substring_matching": "false",
}
_OF_TEAM: Final[Defaults] = {
    **_BUDGET,
    **_INCREASE,
    **_MODEL_RATES,
    **_GUARDS,
    "default_team_member_models": [],
    "enforced_batch_output_expires_after": None,
    "enforced_file_expires_after": None,
    "model_aliases": {},
    "secret_manager_settings": {},
    "team_member_key_duration": None,
}
NEW_TEAM: Final[Defaults] = {
    **_OF_TEAM,
    "admins": [],
    "members": [],
    "spend": 0,
    "team_member_permissions": [],
}
UPDATE_TEAM: Final[Defaults] = {**_OF_TEAM, "spend": None}
_OF_MEMBER: Final[Defaults] = {"allowed_models": [], **_INCREASE}
ADD_MEMBER: Final[Defaults] = _OF_MEMBER
UPDATE_MEMBER: Final[Defaults] = _OF_MEMBER
NEW_USER: Final[Defaults] = {**GENERATE_KEY, **_INCREASE, "password": None, "sso_user_id": None}
UPDATE_USER: Final[Defaults] = {
    **UPDATE_KEY,
    **_INCREASE,
    "duration": None,
    "key_alias": None,
    "password": None,
    "team_id": None,
}
LIST_USERS: Final[Defaults] = {
    "search": "",
    "sort_by": "",
    "sort_order": "asc",
    "sso_user_ids": "",
}
NEW_ORGANIZATION: Final[Defaults] = {
    **_BUDGET,
    **_INCREASE,
    "allowed_models": [],
    # A shared budget belongs to an organization, which must exist first.
    "budget_id": None,
    "object_permission": None,
}
UPDATE_ORGANIZATION: Final[Defaults] = {
    **_BUDGET,
    **_INCREASE,
    "allowed_models": [],
    "object_permission": None,
    "spend": None,
    "updated_by": None,
}
UPDATE_CUSTOMER: Final[Defaults] = {
    "allowed_model_region": None,
    "default_model": None,
    "object_permission": None,
    "spend": None,
    "tpd_limit": None,
}
NEW_CUSTOMER: Final[Defaults] = {**UPDATE_CUSTOMER, "spend": 0}
TAG: Final[Defaults] = {"model_info": {}, "models": [], "tpd_limit": None}
LIST_TAGS: Final[Defaults] = {"end_date": "", "start_date": ""}
NEW_BUDGET: Final[Defaults] = {
    "model_max_budget": {},
    "tpd_limit": None,
}
MODEL_LIMIT: Final[Defaults] = {"soft_budget": None, "tpd_limit": None}
