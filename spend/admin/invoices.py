"""Providers' invoices: uploaded with a preview, read beside the ledger, changed by nobody."""

from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display as column
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone

from budgets import display
from budgets.admin.base import ReadOnlyAdmin, ServiceAdmin, actor_of
from budgets.admin.forms import LinesField
from budgets.admin.lists import page_of, two_lines
from budgets.admin.theme import FileInput, Select
from budgets.errors import InvalidInput
from budgets.fields import NAME_LENGTH_MAX
from spend.admin.invoice_figures import figure, percent, state_of, told
from spend.invoices.files import FILE_BYTES_MAX
from spend.invoices.formats import FORMATS
from spend.models import Day, InvoiceImport, Provider, ProviderKey
from spend.models.invoices import DIGEST_LENGTH
from spend.reconciling import invoicing, reconciliation

CONFIRMED_SECONDS_MAX: Final = 60 * 60
PROVIDERS_LISTED_MAX: Final = 1_000
NOT_CHOSEN: Final = ("", "Choose…")
FORMAT_CHOICES: Final = [NOT_CHOSEN, *((each.name, each.label) for each in FORMATS.values())]
_SALT: Final = "spend.admin.invoices"


def providers() -> list[tuple[str, str]]:
    """Return the providers of the price book, and those that have spent; none is chosen yet."""
    known = set(Provider.objects.values_list("slug", flat=True)[:PROVIDERS_LISTED_MAX])
    used = Day.objects.order_by().values_list("provider", flat=True).distinct()
    slugs = sorted(known | set(used[:PROVIDERS_LISTED_MAX]) - {""})
    return [NOT_CHOSEN, *((slug, slug) for slug in slugs)]


class UploadForm(forms.Form):
    provider = forms.ChoiceField(choices=providers, widget=Select)
    format = forms.ChoiceField(choices=FORMAT_CHOICES, widget=Select)
    file = forms.FileField(max_length=NAME_LENGTH_MAX, widget=FileInput)

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > FILE_BYTES_MAX:
            raise forms.ValidationError(f"It has more than {display.count(FILE_BYTES_MAX)} bytes.")
        return file


@admin.register(InvoiceImport)
class InvoiceImportAdmin(ReadOnlyAdmin):
    purpose = "What providers say was used, beside what the ledger has."
    list_display = ("period", "kind", "theirs_told", "ours_told", "drift_told", "state_told", "by")
    list_filter = ("state", "provider", "format")
    list_fullwidth = True
    search_fields = ("provider", "file_name", "public_id__exact")
    search_help_text = "Provider, file, or exact id"
    ordering = ("-imported_at", "-id")
    change_form_outer_before_template = "spend/invoice.html"
    fieldsets = (
        ("The file", {"fields": (
            ("provider", "format"), ("file_name", "lines"), ("first_day", "last_day"),
            ("imported_at", "imported_by"), ("public_id", "digest"),
        )}),
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("spend.add_invoiceimport"))

    def get_urls(self) -> Any:
        compare = self.admin_site.admin_view(self.compare_view)
        return [
            path("<int:pk>/compare/", compare, name="spend_invoiceimport_compare"),
            *super().get_urls(),
        ]

    # --- Importing --------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask for a file, show what it would find, and keep it once that was confirmed."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if "confirmed" in request.POST:
            return self._import(request)
        form = UploadForm(request.POST or None, request.FILES or None)
        preview: dict[str, Any] = {}
        if request.method == "POST" and form.is_valid():
            try:
                preview = _preview(form)
            except InvalidInput as refused:
                name = refused.field if refused.field in form.fields else "file"
                form.add_error(name, f"{refused.problem[:1].upper()}{refused.problem[1:]}.")
        return self._page(request, form, **preview)

    def _import(self, request: HttpRequest) -> HttpResponse:
        try:
            given = signing.loads(
                request.POST["confirmed"], salt=_SALT, max_age=CONFIRMED_SECONDS_MAX
            )
            imported = invoicing.import_invoice(
                provider=given["provider"], format=given["format"],
                content=given["content"].encode(), file_name=given["file_name"],
                by=actor_of(request), now=timezone.now(),
            )  # fmt: skip
        except signing.BadSignature:
            self.message_user(
                request, "The preview is too old: choose the file again.", messages.ERROR
            )
        except InvalidInput as refused:
            self.message_user(request, f"Not done: it {refused.problem}.", messages.ERROR)
        else:
            self.message_user(request, f"{imported} was imported.", messages.SUCCESS)
            return HttpResponseRedirect(page_of(imported))
        return HttpResponseRedirect(request.get_full_path())

    def _page(self, request: HttpRequest, form: UploadForm, **context: Any) -> HttpResponse:
        shared = self.admin_site.each_context(request)
        about = {"title": "Import an invoice", "opts": self.opts, "form": form}
        return TemplateResponse(request, "spend/invoice_import.html", shared | about | context)

    # --- Reading ----------------------------------------------------------------------------

    def shown(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        if obj is None:
            return super().shown(request, obj)
        found = reconciliation.compare_import(obj)
        return super().shown(request, obj) | {
            "compared": told(found, everything="all" in request.GET),
            "is_as_kept": (found.ours, found.drift) == (obj.ours, obj.drift),
            "may_compare": self.has_add_permission(request),
        }

    def compare_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Keep what a comparison with the ledger finds now."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_add_permission(request):
            raise PermissionDenied
        obj = self.get_object(request, str(pk))
        if obj is None:
            raise Http404
        compared = invoicing.compare_again(invoice_id=obj.public_id, now=timezone.now())
        told_state = compared.get_state_display().lower()
        self.message_user(request, f"{compared} was compared again: {told_state}.")
        return HttpResponseRedirect(page_of(obj))

    @column(description="Days", ordering="first_day")
    def period(self, obj: InvoiceImport) -> str:
        return two_lines(obj.provider, f"{obj.first_day} to {obj.last_day}")

    @column(description="Format", ordering="format")
    def kind(self, obj: InvoiceImport) -> str:
        return two_lines(FORMATS[obj.format].label, obj.file_name)

    @column(description="Theirs", ordering="theirs")
    def theirs_told(self, obj: InvoiceImport) -> str:
        return figure(obj.theirs, obj.currency)

    @column(description="Ours", ordering="ours")
    def ours_told(self, obj: InvoiceImport) -> str:
        return figure(obj.ours, obj.currency)

    @column(description="Drift", ordering="drift_percent")
    def drift_told(self, obj: InvoiceImport) -> str:
        return percent(obj.drift_percent)

    @column(description="State", ordering="state")
    def state_told(self, obj: InvoiceImport) -> str:
        return state_of(obj.state)

    @column(description="Imported", ordering="imported_at")
    def by(self, obj: InvoiceImport) -> str:
        return two_lines(display.moment(obj.imported_at), obj.imported_by)


def _preview(form: UploadForm) -> dict[str, Any]:
    """Return what an import would find, and the file as it will come back when confirmed."""
    given, file = form.cleaned_data, form.cleaned_data["file"]
    content = file.read(FILE_BYTES_MAX + 1)
    invoicing.refuse_again(provider=given["provider"], content=content)
    found = invoicing.preview(provider=given["provider"], format=given["format"], content=content)
    kept = {
        "provider": given["provider"], "format": given["format"],
        "content": content.decode(), "file_name": file.name,
    }  # fmt: skip
    return {
        "compared": told(found, everything=False),
        "file_name": file.name,
        "confirmed": signing.dumps(kept, salt=_SALT, compress=True),
    }


class ProviderKeyForm(forms.ModelForm):
    provider = forms.ChoiceField(choices=providers, widget=Select)
    deployments = LinesField(
        length_max=NAME_LENGTH_MAX,
        help_text="Ids of the deployments that use the provider's key, one a line.",
    )
    key_digests = LinesField(
        length_max=DIGEST_LENGTH, label="Virtual keys",
        help_text="Tokens of virtual keys (never secrets), one a line.",
    )  # fmt: skip

    class Meta:
        model = ProviderKey
        fields = ("provider", "external_id", "deployments", "key_digests")


@admin.register(ProviderKey)
class ProviderKeyAdmin(ServiceAdmin):
    purpose = "Keys of providers that invoices tell apart, and which requests of ours are theirs."
    form = ProviderKeyForm
    list_display = ("external_id", "provider", "stands_for")
    list_filter = ("provider",)
    search_fields = ("external_id", "provider")
    search_help_text = "Provider's key or provider"
    fields = ("provider", "external_id", "deployments", "key_digests")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("provider", "external_id") if obj else ()

    def create(self, request: HttpRequest, form: Any) -> ProviderKey:
        return invoicing.map_provider_key(**form.cleaned_data)

    def update(self, request: HttpRequest, form: Any) -> None:
        mapped = form.instance
        invoicing.map_provider_key(
            provider=mapped.provider, external_id=mapped.external_id, **form.cleaned_data
        )

    def delete_model(self, request: HttpRequest, obj: ProviderKey) -> None:
        invoicing.forget_provider_key(provider=obj.provider, external_id=obj.external_id)

    @column(description="Stands for")
    def stands_for(self, obj: ProviderKey) -> str:
        parts = ((len(obj.deployments), "deployment"), (len(obj.key_digests), "virtual key"))
        return ", ".join(
            f"{display.count(n)} {word if n == 1 else f'{word}s'}" for n, word in parts if n
        )
