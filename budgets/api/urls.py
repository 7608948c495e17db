from django.urls import path

from budgets.api import (
    budgets,
    closings,
    customers,
    increases,
    keys,
    organizations,
    platform,
    resets,
    tags,
    teams,
    users,
)

CUSTOMER = {
    "new": customers.CustomerNew,
    "update": customers.CustomerUpdate,
    "delete": customers.CustomerDelete,
    "block": customers.CustomerBlock,
    "unblock": customers.CustomerUnblock,
    "info": customers.CustomerInfo,
    "list": customers.CustomerList,
}

INCREASE = {
    "approve": increases.IncreaseApprove,
    "cancel": increases.IncreaseCancel,
    "deny": increases.IncreaseDeny,
    "shorten": increases.IncreaseShorten,
}

urlpatterns = [
    path("api/v1/increases", increases.Increases.as_view(), name="increases"),
    path("api/v1/increases/<uuid:increase_id>", increases.IncreaseOne.as_view(), name="increase"),
    *(
        path(f"api/v1/increases/<uuid:increase_id>/{name}", view.as_view(), name=f"increase-{name}")
        for name, view in INCREASE.items()
    ),
    *(
        path(f"{prefix}/{name}", view.as_view(), name=f"{prefix}-{name}")
        for prefix in ("customer", "end_user")
        for name, view in CUSTOMER.items()
    ),
    path("key/generate", keys.KeyGenerate.as_view(), name="key-generate"),
    path("key/update", keys.KeyUpdate.as_view(), name="key-update"),
    path("key/regenerate", keys.KeyRegenerate.as_view(), name="key-regenerate"),
    path(
        "key/<path:key>/regenerate", keys.KeyRegenerateNamed.as_view(), name="key-regenerate-named"
    ),
    path("key/<path:key>/reset_spend", resets.KeyReset.as_view(), name="key-reset-spend"),
    path("key/block", keys.KeyBlock.as_view(), name="key-block"),
    path("key/unblock", keys.KeyUnblock.as_view(), name="key-unblock"),
    path("key/delete", keys.KeyDelete.as_view(), name="key-delete"),
    path("key/info", keys.KeyInfo.as_view(), name="key-info"),
    path("key/list", keys.KeyList.as_view(), name="key-list"),
    path("team/new", teams.TeamNew.as_view(), name="team-new"),
    path("team/update", teams.TeamUpdate.as_view(), name="team-update"),
    path("team/info", teams.TeamInfo.as_view(), name="team-info"),
    path("team/list", teams.TeamList.as_view(), name="team-list"),
    path("team/delete", teams.TeamDelete.as_view(), name="team-delete"),
    path("team/member_add", teams.TeamMemberAdd.as_view(), name="team-member-add"),
    path("team/member_update", teams.TeamMemberUpdate.as_view(), name="team-member-update"),
    path("team/member_delete", teams.TeamMemberDelete.as_view(), name="team-member-delete"),
    path(
        "team/<path:team_id>/member/<path:user_id>/reset_spend",
        resets.MemberReset.as_view(),
        name="team-member-reset-spend",
    ),
    path("user/new", users.UserNew.as_view(), name="user-new"),
    path("user/update", users.UserUpdate.as_view(), name="user-update"),
    path("user/info", users.UserInfo.as_view(), name="user-info"),
    path("user/list", users.UserList.as_view(), name="user-list"),
    path("organization/new", organizations.OrganizationNew.as_view(), name="organization-new"),
    path(
        "organization/update",
        organizations.OrganizationUpdate.as_view(),
        name="organization-update",
    ),
    path("organization/info", organizations.OrganizationInfo.as_view(), name="organization-info"),
    path("tag/new", tags.TagNew.as_view(), name="tag-new"),
    path("tag/update", tags.TagUpdate.as_view(), name="tag-update"),
    path("tag/delete", tags.TagDelete.as_view(), name="tag-delete"),
    path("tag/info", tags.TagInfo.as_view(), name="tag-info"),
    path("tag/list", tags.TagList.as_view(), name="tag-list"),
    path("provider/budgets", platform.ProviderBudgets.as_view(), name="provider-budgets"),
    path("api/v1/closings", closings.Closings.as_view(), name="closings"),
    path("api/v1/model-budgets", platform.ModelBudgets.as_view(), name="model-budgets"),
    path(
        "api/v1/model-budgets/delete",
        platform.ModelBudgetDelete.as_view(),
        name="model-budget-delete",
    ),
    path("api/v1/periods/preview", budgets.PeriodPreview.as_view(), name="period-preview"),
    path(
        "api/v1/accounts/<uuid:account_id>/reset", resets.AnyReset.as_view(), name="account-reset"
    ),
    path("budget/new", budgets.BudgetNew.as_view(), name="budget-new"),
    path("budget/update", budgets.BudgetUpdate.as_view(), name="budget-update"),
    path("budget/info", budgets.BudgetInfo.as_view(), name="budget-info"),
    path("budget/list", budgets.BudgetList.as_view(), name="budget-list"),
    path("budget/delete", budgets.BudgetDelete.as_view(), name="budget-delete"),
]
