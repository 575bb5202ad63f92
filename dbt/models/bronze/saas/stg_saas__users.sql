with

source as (

    select * from {{ source('saas', 'users') }}
    where record_id is not null

),

renamed as (

    select
        site,
        record_id,
        interval_date as created_date,
        user_id,
        account_id,
        email,
        full_name,
        role,
        signed_up_at,
        created_at,
        updated_at,
        coalesce(deleted_at, source_deleted_at) as deleted_at,
        coalesce(deleted_at, source_deleted_at) is not null as is_deleted,
        load_seq,
        fetched_at
    from source

),

final as (

    {{ not_quarantined('renamed', 'saas_users', 'created_date') }}

)

select * from final
