from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from gateway import views
from gateway.batches import views as batches
from gateway.routes import AZURE_PATH, ROUTES, paths_of

# Keys come in headers, never in cookies: there is nothing that another site could forge.
estimate = csrf_exempt(views.Estimate.as_view())
inference = csrf_exempt(views.Inference.as_view())

batch_views = {
    "files": ("files", batches.Files),
    "file-detail": ("files/<str:file_id>", batches.FileDetail),
    "file-content": ("files/<str:file_id>/content", batches.FileContent),
    "batches": ("batches", batches.Batches),
    "batch-detail": ("batches/<str:batch_id>", batches.BatchDetail),
    "batch-cancel": ("batches/<str:batch_id>/cancel", batches.BatchCancel),
}

urlpatterns = [
    *(
        path(f"v1/{below}", csrf_exempt(view.as_view()), name=name)
        for name, (below, view) in batch_views.items()
    ),
    # The same at other paths: described once is enough.
    *(
        path(f"{before}{below}", csrf_exempt(view.as_view(schema=None)), name=f"{name}-{other}")
        for name, (below, view) in batch_views.items()
        for other, before in (("bare", ""), ("openai", "openai/v1/"))
    ),
    *(
        path(each.removeprefix("/"), inference, name=f"{route.name}{each}")
        for route in ROUTES
        for each in paths_of(route)
    ),
    path(AZURE_PATH, csrf_exempt(views.Inference.as_view(schema=None)), name="azure-deployment"),
    path("v1/estimate", estimate, name="estimate"),
    path("estimate", estimate, name="estimate-bare"),
    path("v1/models", views.Models.as_view(), name="models"),
    path("models", views.Models.as_view(), name="models-bare"),
    path("v1/key", views.KeyDetail.as_view(), name="key-detail"),
    path("v1/requests/<uuid:request_id>", views.RequestDetail.as_view(), name="request-detail"),
]
